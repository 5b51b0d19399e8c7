#!/usr/bin/env bash
# Trains one SAE and one TSAE by several processes, with a real MPI, and holds every file to that of one process:
#
#     crates/tsae/tests/cluster/mpi.sh
#
# By two and by four processes, which share rows or latents; by two of which one is killed, or all are stopped, and continued by another number. It builds `tsae` with the feature
# "mpi", which takes libclang (from PyPI, 25 MB, once, into the cache folder) and an MPI with its headers: Debian's mpich and libmpich-dev, which
# it installs if it is root and they can be had. Elsewhere it says why it is skipped.
set -euo pipefail
cd "$(dirname "$0")/../../../.."

skip() {
    echo "skipped: $1" >&2
    exit 0
}
version=18.1.1
source scripts/cached.sh
if ! command -v mpicc > /dev/null || ! command -v mpiexec > /dev/null; then
    [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null || skip "there is no mpicc and mpiexec (apt-get install mpich libmpich-dev)"
    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends mpich libmpich-dev; } > /dev/null 2>&1 ||
        skip "Debian's mpich could not be installed"
fi
folder=$cache/libclang-$version
one_at_a_time libclang
if ! [ -f "$folder/.ready" ]; then
    rm -rf "$folder"
    python3 -m venv "$folder" >&2
    pip_of "$folder/bin/python" "libclang==$version" || skip "libclang could not be had from PyPI"
    touch "$folder/.ready"
fi
library=$(find "$folder" -name 'libclang.so' -o -name 'libclang.dylib' | head -n 1)
export LIBCLANG_PATH=${library%/*}
# That libclang comes without the compiler's own headers.
BINDGEN_EXTRA_CLANG_ARGS="-I$(cc -print-file-name=include)"
export BINDGEN_EXTRA_CLANG_ARGS

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Once without, last with: what lies in target/release is then the one that other tests make.
cargo build --release --features mpi
cp target/release/tsae "$work/with-mpi"
cargo build --release
cp target/release/tsae "$work/without"
tsae=$work/with-mpi

cd "$work"
# Processes that wait do not keep a core from those that work: there are more of them than cores.
export TSAE_PROGRESS=off RAYON_NUM_THREADS=1 MPIR_CVAR_POLLS_BEFORE_YIELD=1
cat > run.toml << 'END'
model = "tiny-gpt2"
hook = "blocks.2.hook_resid_pre"
sampled = 40_000
evaluated_on = 2048
train = { tokens = 60_000, batch = 1024, lr = 1e-3, checkpoint_seconds = 0.1, held_out_tokens = 2048, evaluations = 4 }
[[sae]]
name = "SAE"
expansion = 4
k = 8
[[sae]]
name = "TSAE"
expansion = 4
k = 8
lookup = "unigram"
aux = { }
END
same() {
    diff -r --exclude=.lock "$1" "$2"
    echo "$2 is $1, byte for byte" >&2
}
# What a command ends with.
status_of() {
    local status=0
    "$@" > out 2> err || status=$?
    echo $status
}
# Fails if a command does not.
no() { if "$@" > /dev/null; then
    echo "this should not be so: $*" >&2
    return 1
fi; }
# The processes of a folder.
of() { pgrep -f "^$tsae train run.toml --out $1"; }
# Waits until a run of this folder can be continued.
begun() { until [ -e "$1/SAE/checkpoint.safetensors" ]; do sleep 0.05; done; }

"$tsae" train run.toml --out alone > /dev/null
mpiexec -n 2 "$tsae" train run.toml --out two > said
same alone two
[ "$(grep -c 'TSAE' said)" = 1 ]
mpiexec -n 4 "$tsae" train run.toml --out four > /dev/null
same alone four
TSAE_PROGRESS=lines mpiexec -n 3 "$tsae" train run.toml --out latents --exchange latents > said 2>&1
same alone latents
[ "$(grep -c 'shared by rows, not by latents: "TSAE" (AuxK)' said)" = 1 ]

# One of some ranks is killed, without a warning, and takes the others with it: killed OUT RANKS OPTION…
killed() {
    mpiexec -n "$2" "$tsae" train run.toml --out "$1" "${@:3}" > /dev/null 2>&1 &
    local launcher=$! status=0
    begun "$1"
    kill -9 "$(of "$1" | tail -n 1)"
    wait $launcher || status=$?
    [ $status != 0 ]
    no of "$1"
    no [ -e "$1/TSAE/cfg.json" ]
}
killed killed 2
"$tsae" train run.toml --out killed > /dev/null
same alone killed

# One of three that share latents, whose optimiser the first alone has whole; two that share rows go on.
killed owner 3 --exchange latents
mpiexec -n 2 "$tsae" train run.toml --out owner > /dev/null
same alone owner

# Three are stopped, by Ctrl-C and by what an engine sends, and two go on.
for signal in INT TERM; do
    # The first round leaves a checkpoint: the second waits for one of its own.
    touch launched
    mpiexec -n 3 "$tsae" train run.toml --out stopped > /dev/null 2> err &
    launcher=$!
    until [ stopped/SAE/checkpoint.safetensors -nt launched ]; do sleep 0.05; done
    for pid in $(of stopped); do kill -$signal "$pid"; done
    status=0
    wait $launcher || status=$?
    echo "stopped by $signal: status $status" >&2
    [ $status = 130 ]
    [ "$(grep -c 'tsae: interrupted' err)" = 1 ]
    no [ -e stopped/TSAE/cfg.json ]
done
mpiexec -n 2 "$tsae" train run.toml --out stopped > /dev/null
same alone stopped

# What cannot be is told once, and the status says so.
[ "$(status_of mpiexec -n 2 "$tsae" train run.toml --out card --device cuda:0)" = 2 ]
[ "$(grep -c 'use cpu, or one rank' err)" = 1 ]
[ "$(status_of mpiexec -n 2 "$tsae" train nowhere.toml --out nowhere)" = 1 ]
[ "$(grep -c 'is not there' err)" = 1 ]
[ "$(status_of mpiexec -n 2 "$tsae" compare tiny-gpt2 --sampled 1000 --out compared)" = 2 ]
[ "$(grep -c 'is the work of one' err)" = 1 ]
[ "$(status_of mpiexec -n 2 "$work/without" train run.toml --out refused)" = 2 ]
[ "$(grep -c 'built without the feature "mpi"' err)" = 1 ]
no [ -e refused ]
mpiexec -n 2 "$tsae" bench ranks --shape 64,512,8,1024 --steps 3 --json | grep -q '"by_mpi":true'
echo "the files of one process by any number of ranks" >&2
