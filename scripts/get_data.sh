#!/usr/bin/env bash
# Get a data set into datasets/: bash scripts/get_data.sh ml-1m | ml-100k | synthetic
# (yelp and amazon-book: says what to fetch and how to go on)
source "$(dirname "$0")/setup.sh"
exec python scripts/prepare_data.py "$@"
