#!/usr/bin/env bash
# Compiles the kernels of the GPU's step to PTX, which is committed: src/backend/gpu/kernels/ptx.
#
#     scripts/ptx.sh            writes it
#     scripts/ptx.sh --check    makes it anew, and compares; asks ptxas whether it spills; ends with 3 if PyPI cannot be reached
#
# Neither needs a GPU, nor CUDA: NVRTC and ptxas come from PyPI (ptx-requirements.txt), 100 MB to download, once, into the cache folder.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
list=$here/ptx-requirements.txt
cache=${TSAE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tokenized-sae}
base=$(command -v python3) || { echo "there is no python3 on PATH: install Python 3.10 or later" >&2; exit 1; }
hash=$("$base" -c 'import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest()[:12])' "$list")
folder=$cache/ptx-$hash
python=$folder/bin/python
mkdir -p "$cache"

# One at a time, where the system has flock.
exec 9> "$cache/ptx.lock"
if command -v flock > /dev/null; then flock 9; fi

if ! [ -f "$folder/.ready" ] || ! "$python" -c '' 2> /dev/null; then
    echo "installing the packages of $list in $folder: 100 MB; done once" >&2
    rm -rf "$folder"
    "$base" -m venv "$folder" >&2
    if ! "$python" -m pip install --disable-pip-version-check --no-input --progress-bar off --quiet --no-deps --requirement "$list" >&2; then
        echo "skipped: NVIDIA's compiler could not be had from PyPI" >&2
        exit 3
    fi
    touch "$folder/.ready"
fi
exec "$python" "$here/ptx.py" "$@"
