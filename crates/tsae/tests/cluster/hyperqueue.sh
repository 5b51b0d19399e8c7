#!/usr/bin/env bash
# Prints the path of a Python that has HyperQueue, for the test that runs docs/cluster.md's recipe for it:
#
#     TSAE_HYPERQUEUE_PYTHON=$(crates/tsae/tests/cluster/hyperqueue.sh) cargo test --release --test cluster
#
# It stands in the cache folder, and is made the first time: 12 MB from PyPI. There are wheels for Linux on x86-64 and for macOS.
set -euo pipefail

version=0.27.0
cache=${TSAE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tokenized-sae}
folder=$cache/hyperqueue-$version
python=$folder/bin/python
mkdir -p "$cache"

# One at a time, where the system has flock.
exec 9> "$cache/hyperqueue.lock"
if command -v flock > /dev/null; then flock 9; fi

if ! [ -f "$folder/.ready" ] || ! "$python" -c 'import hyperqueue' 2> /dev/null; then
    rm -rf "$folder"
    python3 -m venv "$folder" >&2
    "$python" -m pip install --disable-pip-version-check --no-input --progress-bar off --quiet "hyperqueue==$version" >&2
    touch "$folder/.ready"
fi
echo "$python"
