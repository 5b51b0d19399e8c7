#!/usr/bin/env bash
# Tries the training step, the models' passes and their text on an NVIDIA card: whether they leave the processor's bits, or in bf16 come
# close, and how fast they are. One JSON object on standard output; ends with 1 if a bit differs, or bf16 too much. Some minutes, most of
# them for the processor's part.
#
#     scripts/gpu-check.sh [TSAE [DEVICE]] > gpu-check.json
#
# TSAE is the program (by default target/release/tsae), built anywhere: neither cargo nor CUDA is needed here. DEVICE is cuda:0.
# With compute-sanitizer on the path, small steps also run under its memcheck and racecheck. STEPS sets how many steps of
# GPT-2's shape are compared (200). With SMALL=1 all of it is small enough for an emulated card.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
tsae=${1:-$here/../target/release/tsae}
device=${2:-cuda:0}
[ -x "$tsae" ] || { echo "there is no program $tsae: cargo build --release makes it" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
same=true close=true
# How much goes through a model on the card, and on the processor.
many=() few=(--sequences 8 --repetitions 1)
[ -z "${SMALL:-}" ] || many=(--sequences 1 --context 40 --repetitions 1) few=("${many[@]}")

# The checksum of a report.
state_of() { sed -n 's/.*"sha256": *"\([0-9a-f]*\)".*/\1/p' "$1"; }

# step NAME ARGUMENT…: a step on the card.
step() {
    local name=$1
    shift
    echo "$name on the card: tsae bench step --device $device $*" >&2
    "$tsae" bench step --device "$device" --json "$@" > "$work/$name.json"
}

# both NAME ARGUMENT…: the same steps on the processor, which have to leave the same bits.
both() {
    local name=$1
    step "$@"
    shift
    echo "$name on the processor" >&2
    "$tsae" bench step --json "$@" > "$work/$name-cpu.json"
    if [ "$(state_of "$work/$name.json")" != "$(state_of "$work/$name-cpu.json")" ]; then
        echo "$name: the card leaves other bits than the processor" >&2
        same=false
    fi
}

# begun VERB NAME ARGUMENT…: a model's passes, or its text, on the card, whose first part has to be what it is on the processor.
begun() {
    local verb=$1 name=$2
    shift 2
    echo "$name on the card: tsae bench $verb --device $device $*" >&2
    "$tsae" bench "$verb" --device "$device" --json "${many[@]}" "$@" > "$work/$name.json"
    echo "$name on the processor" >&2
    "$tsae" bench "$verb" --json "${few[@]}" "$@" > "$work/$name-cpu.json"
    if [ "$(state_of "$work/$name.json")" != "$(state_of "$work/$name-cpu.json")" ]; then
        echo "$name: the card gives other bits than the processor" >&2
        same=false
    fi
}

# harvest_bf16 NAME ARGUMENT…: the same in bf16, of which the program itself wants the first tokens to come close; how close, its
# report says (from_processor).
harvest_bf16() {
    local name=$1
    shift
    echo "$name on the card: tsae bench harvest --dtype bf16 --device $device $*" >&2
    "$tsae" bench harvest --dtype bf16 --device "$device" --json "${many[@]}" "$@" > "$work/$name.json" || {
        echo null > "$work/$name.json"
        close=false
    }
}

"$tsae" bench machine --json > "$work/machine.json"
if [ -n "${SMALL:-}" ]; then
    for table in none learned lazy; do
        both "small-$table" --shape 100,300,5,40 --lookup "$table" --steps 2
    done
    step wide --shape 64,1024,4,20 --lookup lazy --steps 1
    begun harvest harvest-smollm2 --shape smollm2 --layer 1
    harvest_bf16 harvest-smollm2-bf16 --shape smollm2 --layer 1
    many=(--sequences 8 --context 3) few=("${many[@]}")
    begun sample sample-tiny-gpt2 --model tiny-gpt2
else
    for table in none learned lazy; do
        both "small-$table" --shape 100,1000,12,300 --lookup "$table" --steps 20
    done
    both gpt2 --shape gpt2 --lookup lazy --steps "${STEPS:-200}"
    step pythia-1.4b --shape pythia-1.4b --lookup lazy --steps 40
    step smollm2 --shape smollm2 --lookup lazy --steps 40
    step wide --shape 768,49152,32,8192 --lookup lazy --steps 20
    begun harvest harvest-gpt2 --shape gpt2 --layer 8
    begun harvest harvest-pythia-160m --shape pythia-160m --layer 8
    begun harvest harvest-smollm2 --shape smollm2 --layer 8
    begun harvest harvest-pythia-1.4b --shape pythia-1.4b --layer 2 --weights f16
    harvest_bf16 harvest-gpt2-bf16 --shape gpt2 --layer 8
    harvest_bf16 harvest-pythia-160m-bf16 --shape pythia-160m --layer 8
    harvest_bf16 harvest-smollm2-bf16 --shape smollm2 --layer 8
    harvest_bf16 harvest-pythia-1.4b-bf16 --shape pythia-1.4b --layer 8 --weights f16
    many=() few=(--sequences 8)
    begun sample sample-gpt2 --model gpt2
    begun sample sample-pythia-160m --model pythia-160m
    begun sample sample-smollm2 --model smollm2
fi

sanitized=null
if command -v compute-sanitizer > /dev/null; then
    sanitized=true
    for tool in memcheck racecheck; do
        echo "compute-sanitizer --tool $tool" >&2
        compute-sanitizer --tool "$tool" --error-exitcode 9 "$tsae" bench step --device "$device" \
            --shape 64,256,4,100 --steps 1 > "$work/$tool.log" 2>&1 || { sanitized=false; cat "$work/$tool.log" >&2; }
        for dtype in f32 bf16; do
            compute-sanitizer --tool "$tool" --error-exitcode 9 "$tsae" bench harvest --dtype "$dtype" --device "$device" --shape smollm2 --layer 1 \
                --sequences 1 --context 70 --repetitions 1 > "$work/$tool.log" 2>&1 || { sanitized=false; cat "$work/$tool.log" >&2; }
        done
        compute-sanitizer --tool "$tool" --error-exitcode 9 "$tsae" bench sample --device "$device" --model tiny-gpt2 --sequences 8 \
            --context 24 > "$work/$tool.log" 2>&1 || { sanitized=false; cat "$work/$tool.log" >&2; }
    done
fi

printf '{"same_bits": %s, "close_in_bf16": %s, "sanitized": %s' "$same" "$close" "$sanitized"
for report in "$work"/*.json; do
    printf ', "%s": %s' "$(basename "$report" .json)" "$(cat "$report")"
done
printf '}\n'
[ "$same" = true ] && [ "$close" = true ] && [ "$sanitized" != false ]
