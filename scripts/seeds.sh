#!/usr/bin/env bash
# Train one variant with several seeds, published settings, one after another:
#   bash scripts/seeds.sh DiffRec ml-1m_clean 5 [flags of main.py]
# writes results/runs/DiffRec_ml-1m_clean_seed1.json and so on; runs that are there are kept.
source "$(dirname "$0")/setup.sh"
variant=$1 dataset=$2 seeds=$3
shift 3
for seed in $(seq "$seeds"); do
    result="results/runs/${variant}_${dataset}_seed${seed}.json"
    [ -e "$result" ] || python "$variant/main.py" --dataset "$dataset" --seed "$seed" \
        --resume --result_json "$result" "$@"
done
