#!/usr/bin/env bash
# The API reference from docstrings, as HTML in build/api (or in the folder that is named); a
# warning is an error.
help_is_comment=yes
source "$(dirname "$0")/setup.sh"
out=${1:-build/api}
# pdoc goes into a package by itself, unless the package has an __all__.
modules=$(python - <<'PYTHON'
import pkgutil

import baselines
import DiffRec
import L_DiffRec
import T_DiffRec

for package in (DiffRec, L_DiffRec, T_DiffRec, baselines):
    print(package.__name__)
    for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        if found.name.split(".")[1] not in ("main", "inference"):  # commands
            print(found.name)
PYTHON
)
# shellcheck disable=SC2086  (a word for each module)
python -W error::UserWarning -W error::RuntimeWarning -m pdoc --output-directory "$out" $modules
echo "$out/index.html"
