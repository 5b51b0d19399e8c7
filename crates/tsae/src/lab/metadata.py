"""`cargo metadata`, as rust-analyzer gets it: without the crates that no type in a cell comes from.

evcxr asks rust-analyzer for the type of each variable, and rust-analyzer reads the source of every crate that cargo names: some 160,
which takes seconds at every start of a kernel. The types that this library's functions give come from it and a few others, so only those
stay. Crates that a cell adds by `:dep` stay with all that they need. Compiling is not touched.

Called as `metadata.py PACKAGE CARGO ARGUMENT…`.
"""

import json
import subprocess
import sys

# Crates below the library whose types its functions take and give.
KEPT = {"candle-core", "candle-nn", "half"}


def trimmed(metadata, package):
    names = {p["id"]: p["name"] for p in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}

    def wanted(parent, child):
        return names[child] in KEPT if names[parent] == package or names[parent] in KEPT else True

    reached, todo = set(), [metadata["resolve"]["root"]]
    while todo:
        here = todo.pop()
        if here not in reached:
            reached.add(here)
            node = nodes[here]
            node["deps"] = [d for d in node["deps"] if wanted(here, d["pkg"])]
            node["dependencies"] = [d["pkg"] for d in node["deps"]]
            todo.extend(node["dependencies"])
    metadata["resolve"]["nodes"] = [node for node in metadata["resolve"]["nodes"] if node["id"] in reached]
    metadata["packages"] = [p for p in metadata["packages"] if p["id"] in reached]
    return metadata


def main():
    package, command = sys.argv[1], sys.argv[2:]
    answer = subprocess.run(command, stdout=subprocess.PIPE)
    text = answer.stdout
    try:
        metadata = json.loads(text)
        if metadata["resolve"]:
            text = json.dumps(trimmed(metadata, package)).encode()
    except (ValueError, KeyError, TypeError):
        pass  # as cargo said it
    sys.stdout.buffer.write(text)
    sys.exit(answer.returncode)


main()
