#!/usr/bin/env bash
# Makes a virtual environment with exactly what a lock file says, by uv if it is on PATH, else by pip.
# Usage: PYTHON=python3.11 scripts/install.sh <folder> <lock file>
set -euo pipefail
venv=$1 lock=$2 python=${PYTHON:-python3}

if [ -z "$python" ] || ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "Turnout needs Python 3.11 or newer; on Debian: apt install python3 (set PYTHON=… if it is elsewhere)" >&2
    exit 1
fi
echo "installing into $venv …"
if command -v uv >/dev/null; then
    uv venv --quiet --allow-existing --python "$python" "$venv"
    uv pip install --quiet --python "$venv/bin/python" --no-deps --require-hashes -r "$lock"
    uv pip install --quiet --python "$venv/bin/python" --no-deps --no-build-isolation -e .
else
    if ! "$python" -m venv "$venv" 2>/dev/null; then
        version=$("$python" -c 'import sys; print(f"{sys.version_info[0]}.{sys.version_info[1]}")')
        echo "this Python cannot make virtual environments; on Debian: apt install python$version-venv" >&2
        exit 1
    fi
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r "$lock"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
fi
