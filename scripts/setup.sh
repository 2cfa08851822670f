# Sourced by the other scripts: go to the repository, and have a virtual environment with
# everything in it. An active one is used; otherwise .venv is made. Nothing is installed twice, and
# nothing at all where the script was given --dry_run or --help.
set -euo pipefail
if [ -n "${help_is_comment:-}" ] && { [ "${1:-}" = --help ] || [ "${1:-}" = -h ]; }; then
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
    exit 0
fi
cd "$(dirname "${BASH_SOURCE[0]}")/.."

case " $* " in *" --dry_run "* | *" --help "* | *" -h "*)
    if [ -z "${VIRTUAL_ENV:-}" ] && [ -e .venv/bin/activate ]; then
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
    if [ ! -e .venv/bin/activate ]; then  # it comes last: without it one is half made
        if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "error: Python 3.11 or newer is needed as python3." >&2
            exit 2
        fi
        if [ -e .venv ] && [ ! -e .venv/pyvenv.cfg ]; then
            echo "error: .venv is no virtual environment: remove it, or activate one of yours." >&2
            exit 2
        fi
        echo "making the virtual environment .venv"
        if ! python3 -m venv --clear .venv; then
            rm -rf .venv
            echo "error: python3 -m venv failed; some systems have it as a package, python3-venv." >&2
            exit 2
        fi
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
