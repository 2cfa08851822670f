#!/usr/bin/env bash
# Table 1: sizes of the data sets that are here, beside the paper's, and how to get the others.
source "$(dirname "$0")/setup.sh"
exec python scripts/table1.py "$@"
