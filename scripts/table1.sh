#!/usr/bin/env bash
# Table 1: sizes of the data sets that are here, beside the paper's. Into results/.
#   bash scripts/table1.sh [--datasets ml-1m,yelp]
source "$(dirname "$0")/setup.sh"
exec python scripts/reproduce.py table1 "$@"
