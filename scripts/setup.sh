# Sourced by the other scripts: go to the repository, and have a virtual environment with
# everything in it. An active one is used; otherwise .venv is made. Nothing is installed twice, and
# nothing at all where the script was given --dry_run or --help.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

case " $* " in *" --dry_run "* | *" --help "* | *" -h "*)
    if [ -z "${VIRTUAL_ENV:-}" ] && [ -x .venv/bin/python ]; then
        source .venv/bin/activate
    fi
    if ! python -c 'import importlib.util as u, sys; sys.exit(not u.find_spec("torch"))' 2>/dev/null
    then
        echo "error: a dry run, or help, installs nothing: call bash scripts/setup.sh first." >&2
        exit 2
    fi
    return 0 ;;
esac

if [ -z "${VIRTUAL_ENV:-}" ]; then
    if [ ! -x .venv/bin/python ]; then
        if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "error: Python 3.11 or newer is needed as python3." >&2
            exit 2
        fi
        echo "making the virtual environment .venv"
        python3 -m venv .venv
    fi
    source .venv/bin/activate
fi

# The stamp names this checkout and what it asks for: another clone, or other pins, install anew.
stamp="$VIRTUAL_ENV/.diffrec-$( (pwd && cat requirements.txt pyproject.toml) | cksum | tr ' ' '-')"
if [ ! -e "$stamp" ]; then
    echo "installing requirements.txt into $VIRTUAL_ENV"
    python -m pip install --quiet --disable-pip-version-check -r requirements.txt
    rm -f "$VIRTUAL_ENV"/.diffrec-*
    touch "$stamp"
fi
