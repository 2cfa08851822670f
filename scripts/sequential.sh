#!/usr/bin/env bash
# The next item of a sequence: SASRec, DiffuRec and others beside DiffuRec's figures. Into results/.
#   bash scripts/sequential.sh [--datasets beauty_next,toys_next] [--methods SASRec,EASE] \
#       [--seeds 3] [--jobs 2] [--dry_run]
source "$(dirname "$0")/setup.sh"
exec python scripts/sequential.py "$@"
