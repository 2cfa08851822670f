#!/usr/bin/env bash
# Hostile files and flags, and what the commands make of them: bash scripts/fuzz.sh --minutes 10
source "$(dirname "$0")/setup.sh"
exec python scripts/fuzz.py "$@"
