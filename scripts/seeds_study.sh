#!/usr/bin/env bash
# Many seeds of the published settings: how likely is a published figure? Into results/.
#   bash scripts/seeds_study.sh [--dataset ml-1m_clean] [--methods DiffRec,L-DiffRec] \
#       [--seeds 50] [--jobs 2] [--dry_run]
source "$(dirname "$0")/setup.sh"
exec python scripts/seeds_study.py "$@"
