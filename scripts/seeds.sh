#!/usr/bin/env bash
# Train one variant with several seeds, published settings, one after another:
#   bash scripts/seeds.sh DiffRec|L-DiffRec|T-DiffRec|LT-DiffRec ml-1m_clean 5 [flags of main.py]
# writes results/runs/DiffRec_ml-1m_clean_seed1.json and so on; runs that are there are kept.
if [ $# -lt 3 ]; then
    sed -n '3s/^# *//p' "$0" >&2
    exit 2
fi
variant=$1 dataset=$2 seeds=$3
shift 3
source "$(dirname "$0")/setup.sh"
case $variant in
    LT-DiffRec) main=(T-DiffRec/main.py --latent) ;;
    *) main=("$variant/main.py") ;;
esac
for seed in $(seq "$seeds"); do
    result="results/runs/${variant}_${dataset}_seed${seed}.json"
    [ -e "$result" ] || python "${main[@]}" --dataset "$dataset" --seed "$seed" \
        --resume --result_json "$result" "$@"
done
