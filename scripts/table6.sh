#!/usr/bin/env bash
# Table 6: accuracy, parameters and memory of MultiVAE, DiffRec and L-DiffRec. Into results/.
#   bash scripts/table6.sh [--datasets ml-1m,yelp] [--methods DiffRec,MultiVAE] \
#       [--seeds 5] [--gpu 0] [--jobs 2] [--dry_run]
source "$(dirname "$0")/setup.sh"
exec python scripts/reproduce.py table6 "$@"
