#!/usr/bin/env bash
# Compiles the GPU's kernels to PTX, which is committed: src/device/kernels/ptx.
#
#     scripts/ptx.sh            writes it
#     scripts/ptx.sh --check    makes it anew, and compares; asks ptxas whether it spills; ends with 3 if PyPI cannot be reached
#
# Neither needs a GPU, nor CUDA: NVRTC and ptxas come from PyPI (ptx-requirements.txt), 100 MB to download, once, into the cache folder.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
list=$here/ptx-requirements.txt
source "$here/cached.sh"
base=$(command -v python3) || { echo "there is no python3 on PATH: install Python 3.10 or later" >&2; exit 1; }
hash=$(hash_of "$base" "$list")
folder=$cache/ptx-$hash
python=$folder/bin/python
one_at_a_time ptx

if ! [ -f "$folder/.ready" ] || ! "$python" -c '' 2> /dev/null; then
    echo "installing the packages of $list in $folder: 100 MB; done once" >&2
    rm -rf "$folder"
    "$base" -m venv "$folder" >&2
    if ! pip_of "$python" --no-deps --requirement "$list"; then
        echo "skipped: NVIDIA's compiler could not be had from PyPI" >&2
        exit 3
    fi
    touch "$folder/.ready"
fi
exec "$python" "$here/ptx.py" "$@"
