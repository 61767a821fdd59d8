#!/usr/bin/env bash
# Makes .env for compose.yaml: new keys and passwords, readable by its owner alone. Never overwrites one: the data are
# encrypted under its keys.
# Usage: [PYTHON=python3] scripts/env.sh [file]
# Without a Python that has Turnout's libraries, it asks the image: docker build --build-arg SERVICE=registry -t turnout-registry .
set -euo pipefail
cd "$(dirname "$0")/.."
file=${1:-.env} python=${PYTHON:-.venv/bin/python}

if [ -e "$file" ]; then
    echo "$file exists: remove it by hand if nothing was ever stored under its keys" >&2
    exit 1
fi
if [ -x "$(command -v "$python")" ]; then
    keys=$("$python" -m services keygen)
elif command -v docker >/dev/null; then
    keys=$(docker run --rm --network none turnout-registry keygen)
else
    echo "there is neither $python (make install) nor docker" >&2
    exit 1
fi
# A letter first: NATS takes what begins with digits for a number.
password() { printf p; od -An -N 24 -tx1 /dev/urandom | tr -d ' \n'; }
umask 077
{
    echo "$keys"
    for name in POSTGRES NATS GRAFANA; do echo "${name}_PASSWORD=$(password)"; done
} >"$file.new"
mv "$file.new" "$file"
echo "wrote $file"
