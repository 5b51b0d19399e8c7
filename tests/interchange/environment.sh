#!/usr/bin/env bash
# Prints the path of a Python that has the packages of requirements.txt, for the tests that hold files to the real packages:
#
#     TSAE_INTERCHANGE_PYTHON=$(tests/interchange/environment.sh) cargo test --release --test interchange
#
# It stands in the cache folder, and is made the first time: a few minutes, 3 GB to download and 6 GB on disk, because PyPI's torch for Linux brings
# CUDA along. With PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu it is 1.5 GB. Another list is another environment.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
list=$here/requirements.txt
source "$here/../../scripts/cached.sh"
base=$(command -v python3) || { echo "there is no python3 on PATH: install Python 3.11 or later" >&2; exit 1; }
"$base" -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"{sys.executable} is Python {sys.version.split()[0]}; torch needs 3.11 or later")' >&2
hash=$(hash_of "$base" "$list")
folder=$cache/interchange-$hash
python=$folder/bin/python
one_at_a_time interchange

if ! [ -f "$folder/.ready" ] || ! "$python" -c '' 2> /dev/null; then
    echo "installing the packages of $list in $folder: a few minutes, 6 GB; done once" >&2
    rm -rf "$folder"
    "$base" -m venv "$folder" >&2
    pip_of "$python" "$(grep '^torch==' "$list")" --constraint "$list"
    pip_of "$python" --no-deps --requirement "$list"
    touch "$folder/.ready"
fi
echo "$python"
