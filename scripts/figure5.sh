#!/usr/bin/env bash
# Figure 5: importance sampling, and the inference step T'. Into results/.
#   bash scripts/figure5.sh [--dataset ml-1m_clean] [--methods DiffRec,MultiVAE] \
#       [--seeds 5] [--gpu 0] [--jobs 2] [--dry_run]
source "$(dirname "$0")/setup.sh"
exec python scripts/reproduce.py figure5 "$@"
