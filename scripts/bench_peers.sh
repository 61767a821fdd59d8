#!/usr/bin/env bash
# Installs the peers that `make bench WHAT=http` is measured beside, each into an environment of its own, and says of each
# whether it is there. What is installed already is left alone; a peer that cannot be had does not keep the others away.
# Usage: [PYTHON=python3.11] scripts/bench_peers.sh [folder of peers] [.venv]
# Exit status: 0 if all are there, 1 if one is missing.
set -uo pipefail
cd "$(dirname "$0")/.."
peers=$(realpath -m "${1:-.peers}") venv=$(realpath -m "${2:-.venv}") python=${PYTHON:-}
[ -n "$python" ] || python=$(readlink -f "$venv/bin/python")

# Kept in step with bench/peers.py, which says what it measured.
litellm='litellm[proxy]==1.106.2 opentelemetry-sdk==1.45.2 opentelemetry-exporter-otlp-proto-grpc==1.45.2'
portkey='@portkey-ai/gateway@1.15.2'
tensorzero='tensorzero==2026.6.0'

if [ ! -x "$venv/bin/uv" ] || [ ! -x "$venv/bin/node" ]; then
    echo "there is no uv or node in $venv: make install" >&2
    exit 1
fi
mkdir -p "$peers"

into_venv() { # folder, requirements
    # shellcheck disable=SC2086  # several words
    "$venv/bin/uv" venv --quiet --clear --python "$python" "$1" &&
        "$venv/bin/uv" pip install --quiet --python "$1/bin/python" $2
}

into_node_modules() { # folder, requirement
    # npm is told neither to run what packages bring along nor to speak of money.
    PATH="$venv/bin:$PATH" "$venv/bin/npm" install --prefix "$1" --ignore-scripts --no-audit --no-fund --loglevel=error "$2"
}

missing=0
install() { # name, how, requirement
    local folder=$peers/$1 log=$peers/$1.log
    if [ "$(cat "$folder/.installed" 2>/dev/null)" = "$3" ]; then
        echo "$3: is there"
        return
    fi
    echo "$3: installing …"
    rm -rf "$folder" && mkdir -p "$folder"
    if "$2" "$folder" "$3" >"$log" 2>&1; then
        echo "$3" >"$folder/.installed"
        echo "$3: installed, $(du -sm "$folder" | cut -f1) MB"
    else
        missing=1
        echo "$3: NOT INSTALLED, so bench/http will leave it out and say so; the end of $log:" >&2
        tail -n 15 "$log" | sed 's/^/  /' >&2
    fi
}

install litellm into_venv "$litellm"
install portkey into_node_modules "$portkey"
install tensorzero into_venv "$tensorzero"
exit $missing
