#!/usr/bin/env bash
# The package as a stranger has it: a wheel of this checkout, installed into an empty environment
# that sees the libraries of this one, and its commands in a folder of no checkout. Seconds; nothing
# is downloaded. Prints "the package works" at the end.
help_is_comment=yes
source "$(dirname "$0")/setup.sh"

here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
mkdir "$here/source"  # since a build leaves files behind
git ls-files DiffRec L-DiffRec T-DiffRec baselines pyproject.toml README.md LICENSE |
    tar -cf - -T - | tar -xf - -C "$here/source"
python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation \
    --no-index --wheel-dir "$here/wheels" "$here/source"
python -m venv --without-pip "$here/venv"
python - "$here/venv" <<'PYTHON'
import sys
import sysconfig
from pathlib import Path

inside = sysconfig.get_path("purelib", vars={"base": sys.argv[1], "platbase": sys.argv[1]})
libraries = [path for path in sys.path if path.endswith("-packages")]
Path(inside, "libraries.pth").write_text("\n".join(libraries))
PYTHON
python -m pip --python "$here/venv/bin/python" install --quiet --disable-pip-version-check \
    --no-deps --no-index "$here"/wheels/*.whl

mkdir "$here/elsewhere"
cd "$here/elsewhere"
unset DIFFREC_DATASETS
export OMP_NUM_THREADS=1 PATH="$here/venv/bin:$PATH"
python - <<'PYTHON'
import DiffRec
from DiffRec.preparation import synthetic

assert "elsewhere" not in DiffRec.__file__ and "venv" in DiffRec.__file__, DiffRec.__file__
ratings = synthetic.make_ratings(n_users=120, n_items=80, mean_ratings=35, seed=3)
ratings.to_csv("ratings.csv", index=False)
PYTHON
diffrec-prepare ratings.csv --format csv --core 3 --out datasets/tiny | grep "is ready"
short=(--dataset tiny --epochs 1 --topN 10 20)
diffrec "${short[@]}" --dims 8 --steps 2 --result_json diffrec.json
l-diffrec "${short[@]}" --n_cate 1 --in_dims 8 --out_dims [] --mlp_dims 8 --steps 2
t-diffrec "${short[@]}" --dims 8 --steps 2
diffrec-baselines "${short[@]}" --model EASE
grep -q '"python -m DiffRec.main' diffrec.json
diffrec-inference --checkpoint saved_models/DiffRec_*.safetensors --history 0,1 --raw_ids 0
l-diffrec-inference --checkpoint saved_models/L-DiffRec_*.safetensors --recommend lists.csv
t-diffrec-inference --checkpoint saved_models/T-DiffRec_*.safetensors > /dev/null
diffrec-baselines-inference --checkpoint saved_models/EASE_*.safetensors > /dev/null
test -s lists.csv
echo "the package works"
