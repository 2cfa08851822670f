#!/usr/bin/env bash
# Get a data set into datasets/: bash scripts/get_data.sh ml-1m | synthetic
source "$(dirname "$0")/setup.sh"
exec python scripts/prepare_data.py "$@"
