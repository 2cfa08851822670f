#!/usr/bin/env bash
# Data that the paper does not have, and what settings one's own data should get. Into results/.
#   bash scripts/other_data.sh [--datasets ml-100k_clean,yelp-cdr_clean] [--methods EASE,DiffRec] \
#       [--seeds 1] [--jobs 2] [--dry_run]
source "$(dirname "$0")/setup.sh"
exec python scripts/other_data.py "$@"
