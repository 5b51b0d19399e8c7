#!/usr/bin/env bash
# Prints the path of a Python that has HyperQueue, for the test that runs docs/cluster.md's recipe for it:
#
#     TSAE_HYPERQUEUE_PYTHON=$(crates/tsae/tests/cluster/hyperqueue.sh) cargo test --release --test cluster
#
# It stands in the cache folder, and is made the first time: 12 MB from PyPI. There are wheels for Linux on x86-64 and for macOS.
set -euo pipefail

version=0.27.0
source "$(dirname "$0")/../../../../scripts/cached.sh"
folder=$cache/hyperqueue-$version
python=$folder/bin/python
one_at_a_time hyperqueue

if ! [ -f "$folder/.ready" ] || ! "$python" -c 'import hyperqueue' 2> /dev/null; then
    rm -rf "$folder"
    python3 -m venv "$folder" >&2
    pip_of "$python" "hyperqueue==$version"
    touch "$folder/.ready"
fi
echo "$python"
