#!/usr/bin/env bash
# What the choice of the epoch is worth: of each run the best one on validation and on test. Into
# results/.
#   bash scripts/epoch_study.sh [--dataset ml-1m_clean] [--methods DiffRec,L-DiffRec] [--seeds 10] [--patience 150]
source "$(dirname "$0")/setup.sh"
exec python scripts/epoch_study.py "$@"
