#!/usr/bin/env bash
# Make L-DiffRec's input for a data set, item_emb.npy beside its lists, by training a LightGCN:
#   bash scripts/make_item_embeddings.sh DATASET [flags of baselines/main.py]
# e.g. --export_item_emb FILE for another place, --item_emb layer-0 for the embeddings before
# propagation. A file that is there already is not overwritten.
if [ $# -lt 1 ]; then
    sed -n '3s/^# *//p' "$0" >&2
    exit 2
fi
dataset=$1
shift
source "$(dirname "$0")/setup.sh"
exec python baselines/main.py --model LightGCN --dataset "$dataset" --resume --export_item_emb "$@"
