#!/usr/bin/env bash
# Every table and figure, one after the other, into results/. Flags as for table2.sh go to all.
#   bash scripts/reproduce_all.sh [--seeds 5] [--gpu 0] [--jobs 2] [--dry_run]
source "$(dirname "$0")/setup.sh"
exec python scripts/reproduce.py all "$@"
