#!/usr/bin/env bash
# Figure 4: random noises from 10 to 50 %. Into results/.
#   bash scripts/figure4.sh [--dataset ml-1m_clean] [--methods DiffRec,MultiVAE] \
#       [--seeds 5] [--gpu 0] [--jobs 2] [--dry_run]
source "$(dirname "$0")/setup.sh"
exec python scripts/reproduce.py figure4 "$@"
