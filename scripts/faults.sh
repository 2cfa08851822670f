#!/usr/bin/env bash
# Runs that are killed, and disks that are full: bash scripts/faults.sh --kills 100
source "$(dirname "$0")/setup.sh"
exec python scripts/faults.py "$@"
