#!/usr/bin/env bash
# From a CSV of ratings to recommendations: bash examples/own_data.sh RATINGS.csv OUT [COLUMNS]
# COLUMNS names those of user, item, rating and time, by default user,item,rating,timestamp. OUT is
# a folder for everything. Without arguments ratings are made up. Set-up: bash scripts/setup.sh
set -euo pipefail
absolute() { case $1 in /*) echo "$1" ;; *) echo "$PWD/$1" ;; esac; }
out=$(absolute "${2:-$(mktemp -d)}")
ratings=$(absolute "${1:-$out/ratings.csv}")
cd "$(dirname "$0")/.."
columns=${3:-user,item,rating,timestamp}
if [ $# -eq 0 ]; then
    python - "$ratings" <<'PYTHON'
import sys

from DiffRec.preparation import synthetic

table = synthetic.make_ratings(n_users=300, n_items=200, mean_ratings=40, seed=1)
table[["user", "item", "rating", "timestamp"]].to_csv(sys.argv[1], index=False)
PYTHON
fi

# 1. Split each user's good ratings in time into train, validation and test.
python scripts/prepare_data.py "$ratings" --format csv --columns "$columns" --core 5 --out "$out/mine"
# 2. Train; the settings are a start, scripts/search.py finds better ones.
python DiffRec/main.py --data_path "$out/mine" --dims 200 --steps 5 --lr 1e-3 --epochs 50 \
    --save_path "$out/saved" --result_json "$out/result.json"
# 3. Ten items for every user who is in the data, by raw id, ...
name=$(python -c 'import json, sys; print(json.load(open(sys.argv[1]))["checkpoint"])' "$out/result.json")
checkpoint=$out/saved/$name
python DiffRec/inference.py --checkpoint "$checkpoint" --data_path "$out/mine" \
    --recommend "$out/top10.csv" --k 10
head -4 "$out/top10.csv"
# ... and for somebody who is not, by what this person has: here the first list's items.
python - "$out" <<'PYTHON'
import sys
from pathlib import Path

import pandas as pd

top = pd.read_csv(f"{sys.argv[1]}/top10.csv", dtype=str, keep_default_na=False)
Path(sys.argv[1], "history.txt").write_text("\n".join(top["item"].head(3)), encoding="utf-8")
PYTHON
python DiffRec/inference.py --checkpoint "$checkpoint" --history "$out/history.txt" --k 5
