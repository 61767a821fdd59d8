#!/usr/bin/env bash
# Puts Debian's `prometheus` and `promtool` into a folder, for tests; prints where they are. Those on PATH are taken as
# they are. Needs no root: the package is downloaded and unpacked, not installed.
# Usage: scripts/prometheus.sh <folder>
set -euo pipefail
folder=$(realpath -m "${1:?usage: scripts/prometheus.sh <folder>}")

if command -v prometheus >/dev/null && command -v promtool >/dev/null; then
    dirname "$(command -v prometheus)"
    exit
fi
if [ ! -x "$folder/usr/bin/promtool" ]; then
    for tool in apt-get dpkg-deb; do
        if ! command -v "$tool" >/dev/null; then
            echo "there is no $tool here to get Prometheus with: install prometheus and promtool and put them on PATH" >&2
            exit 1
        fi
    done
    mkdir -p "$folder"
    new=$(mktemp -d "$folder.XXXXXX")
    trap 'rm -rf "$new"' EXIT
    download() { (cd "$new" && apt-get download -qq prometheus "$@"); }
    # Without root, apt keeps its lists in a folder of ours.
    lists=(-o "Dir::State::lists=$new/lists" -o "Dir::Cache=$new/cache" -o "APT::Sandbox::User=$(id -un)")
    if ! download -o "APT::Sandbox::User=$(id -un)" 2>/dev/null; then
        mkdir -p "$new/lists/partial" "$new/cache/archives/partial"
        if ! { apt-get update -qq "${lists[@]}" && download "${lists[@]}"; } >&2; then
            echo "Debian's prometheus cannot be downloaded; install it by hand: apt-get install prometheus" >&2
            exit 1
        fi
    fi
    dpkg-deb -x "$new"/prometheus_*.deb "$new/unpacked"
    # In one step: another run may do the same.
    rm -rf "$folder" && mv "$new/unpacked" "$folder"
fi
echo "$folder/usr/bin"
