#!/usr/bin/env bash
# Figure 7: number of item clusters C. Into results/.
#   bash scripts/figure7.sh [--dataset ml-1m_clean] [--methods DiffRec,MultiVAE] \
#       [--seeds 5] [--gpu 0] [--jobs 2] [--dry_run]
source "$(dirname "$0")/setup.sh"
exec python scripts/reproduce.py figure7 "$@"
