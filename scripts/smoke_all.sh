#!/usr/bin/env bash
# Run every script of results/ once on small synthetic data, one epoch a run, in a few minutes;
# nothing in the repository is touched. Prints "all scripts run" at the end.
help_is_comment=yes
source "$(dirname "$0")/setup.sh"

here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
export DIFFREC_DATASETS="$here/data" OMP_NUM_THREADS=1
for kind in clean noisy; do
    # Made-up ratings under the name of the smallest data set of the paper.
    python scripts/prepare_data.py --synthetic --out "$DIFFREC_DATASETS/ml-1m_$kind"
done
short="--epochs 1 --topN 10 20"
for kind in clean noisy; do
    bash scripts/make_item_embeddings.sh "ml-1m_$kind" $short --emb_size 8 --save_path "$here/saved"
done
echo "reg choice [10.0, 100.0]" > "$here/ranges.txt"
python scripts/search.py --model EASE --dataset ml-1m_clean --ranges "$here/ranges.txt" --seeds 1 \
    --out "$here/search" --presets "$here/presets.toml"
flags=(--results "$here/results" --jobs 2 --seeds 1)
bash scripts/table1.sh --results "$here/results"
for what in table2 table3 table4 table5 table6 table7 figure4 figure5 figure6 figure7; do
    bash "scripts/$what.sh" "${flags[@]}" --run_flags "$short" > "$here/$what.txt" 2>&1 ||
        { cat "$here/$what.txt"; exit 1; }
    test -s "$here/results/$what.md"
    test -s "$here/results/$what.csv"
    echo "$what: $(ls "$here/results/runs" | wc -l) runs so far"
done
bash scripts/recency.sh --methods EASE "${flags[@]}" --run_flags "$short" > "$here/recency.txt"
test -s "$here/results/recency.md"
bash scripts/seeds_study.sh --methods DiffRec "${flags[@]}" --run_flags "$short" > "$here/seeds.txt"
test -s "$here/results/seeds_study.md"
bash scripts/epoch_study.sh --methods DiffRec --seeds 1 --results "$here/results" > "$here/epochs.txt"
test -s "$here/results/epoch_study.md"
bash scripts/other_data.sh --datasets ml-1m_clean --methods EASE,DiffRec "${flags[@]}" --run_flags "$short" > "$here/other.txt"
grep -q "the release's defaults" "$here/results/other_data.md"
python scripts/prepare_data.py --synthetic --protocol leave_one_out --core 5 --out "$DIFFREC_DATASETS/beauty_next"
bash scripts/sequential.sh --methods GRU4Rec "${flags[@]}" --run_flags "--epochs 1" > "$here/next.txt"
test -s "$here/results/sequential.md"
bash scripts/reproduce_all.sh "${flags[@]}" --run_flags "$short" --dry_run > "$here/all.txt"
if grep -q '^python.*--dataset ml-1m' "$here/all.txt"; then
    echo "error: finished runs would be repeated." >&2
    exit 1
fi
grep -q 'Figure 7' "$here/results/README.md"
python -m torch.distributed.run --nproc_per_node 2 DiffRec/main.py --dataset ml-1m_clean --epochs 1 \
    --item_shards 2 --save_path "$here/shards" > "$here/shards.txt" 2>&1 ||
    { cat "$here/shards.txt"; exit 1; }
test "$(ls "$here"/shards/*.part?of2.safetensors | wc -l)" -eq 2
bash examples/own_data.sh > "$here/own.txt" 2>&1 || { cat "$here/own.txt"; exit 1; }
bash scripts/try_package.sh > "$here/package.txt" 2>&1 || { cat "$here/package.txt"; exit 1; }
echo "all scripts run"
