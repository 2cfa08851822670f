#!/usr/bin/env bash
# Everything that only a GPU can show, in about ten minutes on one: the tests that need one, then
# seconds and memory of DiffRec on twins of the paper's data sets.
#   bash scripts/gpu_check.sh [--steps 20] [--out results/gpu_check.md]
source "$(dirname "$0")/setup.sh"
python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' || {
    echo "error: there is no GPU here." >&2
    exit 2
}
failed=0
python -m pytest -q tests/test_gpu.py || failed=1  # what was measured is worth having all the same
python scripts/gpu_check.py "$@"
exit $failed
