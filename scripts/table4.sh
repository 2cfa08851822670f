#!/usr/bin/env bash
# Table 4: L-DiffRec and DiffRec with natural noises. Into results/.
#   bash scripts/table4.sh [--datasets ml-1m,yelp] [--methods DiffRec,MultiVAE] \
#       [--seeds 5] [--gpu 0] [--jobs 2] [--dry_run]
source "$(dirname "$0")/setup.sh"
exec python scripts/reproduce.py table4 "$@"
