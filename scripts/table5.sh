#!/usr/bin/env bash
# Table 5: predicting x0 or epsilon (ML-1M). Into results/.
#   bash scripts/table5.sh [--datasets ml-1m,yelp] [--methods DiffRec,MultiVAE] \
#       [--seeds 5] [--gpu 0] [--jobs 2] [--dry_run]
source "$(dirname "$0")/setup.sh"
exec python scripts/reproduce.py table5 "$@"
