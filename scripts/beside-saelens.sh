#!/usr/bin/env bash
# SynthSAEBench by `tsae synth` and by SAELens' own trainer, on the same rows: scores by the same definitions, and the time of both.
#
#     scripts/beside-saelens.sh DIR [SAMPLES [ARCH…]]
#
# SAMPLES is 2,000,000, ARCH batch-topk and matryoshka. Some ten minutes for a million rows on two cores, most of them SAELens'. What is trained
# is kept in DIR, by its number of rows, and found again. TSAE_INTERCHANGE_PYTHON names a Python that has sae-lens; without it one is made (tests/interchange/environment.sh).
set -euo pipefail

[ $# -ge 1 ] || { sed -n '4p' "$0" | tr -d '#' >&2; exit 2; }
here=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$1"
dir=$(cd "$1" && pwd)
samples=${2:-2000000}
archs=("${@:3}")
[ ${#archs[@]} -gt 0 ] || archs=(batch-topk matryoshka)
python=${TSAE_INTERCHANGE_PYTHON:-$("$here/tests/interchange/environment.sh")}
cd "$here"
cargo build --release --package tsae >&2
cargo build --release --example synthetic_rows >&2
target=$(cargo metadata --format-version 1 --no-deps | "$python" -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')/release
rows=$target/examples/synthetic_rows

# Pushing the model's directions apart takes a minute, once, and is nobody's training.
"$target/tsae" synth --preset full --forecast --out "$dir" >&2

for arch in "${archs[@]}"; do
    ours=$dir/$arch-$samples-ours theirs=$dir/$arch-$samples-saelens
    mkdir -p "$ours"
    [ -d "$ours/model" ] || cp -r "$dir/model" "$ours/"
    if ! [ -f "$ours/seconds.txt" ]; then
        SECONDS=0
        "$target/tsae" synth --preset full --l0 25 --samples "$samples" --scored 1000 --arch "$arch" --out "$ours" > /dev/null
        echo "$SECONDS" > "$ours/seconds.txt"
    fi
    if ! [ -f "$theirs/seconds.txt" ]; then
        "$rows" "$dir" rows "$samples" | "$python" "$here/tests/interchange/beside.py" "$arch" "$samples" "$theirs" >&2
    fi
    for sae in "$ours"/runs/* "$theirs"; do
        [ -f "$sae/scores.json" ] || { "$rows" "$dir" score "$sae" > "$sae/scores.part" && mv "$sae/scores.part" "$sae/scores.json"; }
    done
done
exec "$python" - "$dir" "$samples" "${archs[@]}" <<'PY'
import json, sys
from pathlib import Path

folder, samples, archs = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
names = ["l0", "f1", "mcc", "uniqueness", "explained_variance", "dead"]
print(f"{samples} rows, L0 25\n{'SAE':24}" + "".join(f"{name:>20}" for name in [*names, "seconds"]))
for arch in archs:
    for who in ["ours", "saelens"]:
        at = folder / f"{arch}-{samples}-{who}"
        [scores] = at.glob("runs/*/scores.json" if who == "ours" else "scores.json")
        scores = json.loads(scores.read_text())
        row = [*(scores[name] for name in names), float((at / "seconds.txt").read_text())]
        print(f"{arch + ' by ' + who:24}" + "".join(f"{value:20.4f}" for value in row))
PY
