#!/usr/bin/env bash
# Set-up, lint, types, and the whole test suite. Arguments go to pytest, e.g. -k diffusion.
help_is_comment=yes
source "$(dirname "$0")/setup.sh"
ruff check .
ruff format --check .
mypy
python -m pytest "$@"
