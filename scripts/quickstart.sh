#!/usr/bin/env bash
# From a fresh clone to a trained DiffRec: set-up, data, training, metrics beside the paper's, and
# recommendations for three users. Arguments go to DiffRec/main.py, e.g. --epochs 10.
source "$(dirname "$0")/setup.sh"
exec python scripts/quickstart.py "$@"
