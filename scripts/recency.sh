#!/usr/bin/env bash
# Recency for everyone: models plain, weighted at inference, and in training too. Into results/.
#   bash scripts/recency.sh [--datasets ml-1m] [--methods EASE,DiffRec] [--seeds 3] [--jobs 2] \
#       [--dry_run]
source "$(dirname "$0")/setup.sh"
exec python scripts/recency.py "$@"
