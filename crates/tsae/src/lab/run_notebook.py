"""Runs one notebook in its kernel and says what happens, one JSON object a line on stdout.

A cell fails that does not compile, panics, ends with a failing `?` or reads standard input, unless it is tagged `raises-exception`. What it writes to
stderr is output.

The request comes as a line of JSON on stdin, whose end is also ours:

* `notebook`: path of the notebook to run, or the notebook itself; or `cells`: the sources of the cells to run, all of them, whatever they answer;
* `kernel`: name of the kernel; `folder`: where its cells run; `start_seconds`, `cell_seconds`: time limits (the latter may be `null`);
* `ipynb`, `html`: where to write the executed copies (`null`: nowhere).

The answers: `{"event": "started", "cells": n}`, `{"event": "cell", "cell": i}` when a cell starts, `{"event": "output", "text": …}` for
each piece of its stdout, `{"event": "remark", "text": …}` of its stderr, `{"event": "cell_done", "cell": i, "seconds": s, "failed": null | message, "source": …}` and `{"event": "done"}`.
"""

import contextlib
import json
import os
import re
import sys
import threading
import time

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbconvert import HTMLExporter
from traitlets.config import Config

LONGEST_MESSAGE = 4000


class Client(NotebookClient):
    """Passes on what a cell prints while it runs."""

    def process_message(self, msg, cell, cell_index):
        if msg["msg_type"] == "stream":
            say(event="output" if msg["content"]["name"] == "stdout" else "remark", text=msg["content"]["text"])
        return super().process_message(msg, cell, cell_index)


def failure(cell):
    """What went wrong in a cell that was run, or None."""
    errors = [o for o in cell.outputs if o["output_type"] == "error"]
    if not errors:
        return None
    text = "\n".join(COLOURS.sub("", "\n".join(o.get("traceback") or [o.get("evalue", "")])) for o in errors)
    panic = re.search(r"panicked at .*?(?=\nstack backtrace:|\Z)", text, re.S)
    text = panic.group(0) if panic else text
    return text.strip()[:LONGEST_MESSAGE] or "it says nothing of why"


def write(path, text):
    partial = f"{path}.{os.getpid()}.part"
    with open(partial, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


@contextlib.contextmanager
def started(client):
    """The kernel, from its start to its end; what it wrote itself says why it did not start, and no traceback of ours hides that."""
    try:
        kernel = client.setup_kernel()
        kernel.__enter__()
    except (RuntimeError, TimeoutError) as error:
        sys.exit(f"the kernel did not start: {error}")
    try:
        yield
    finally:
        kernel.__exit__(None, None, None)


def main():
    request = json.loads(sys.stdin.readline())
    threading.Thread(target=end_with_parent, daemon=True).start()
    if isinstance(request.get("notebook"), str):
        notebook = nbformat.read(request["notebook"], as_version=4)
    elif request.get("notebook"):
        notebook = nbformat.reads(json.dumps(request["notebook"]), as_version=4)
    else:
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in request["cells"]])
    sockets = Sockets()
    client = Client(
        notebook,
        kernel_name=request["kernel"],
        timeout=request["cell_seconds"],
        startup_timeout=request["start_seconds"],
        allow_errors=True,
        resources={"metadata": {"path": request["folder"]}},
        config=Config(KernelManager=sockets.settings),
    )
    failed = False
    code = [(i, c) for i, c in enumerate(notebook.cells) if c.cell_type == "code" and c.source.strip()]
    for _, cell in code:
        cell.outputs = []
        cell.execution_count = None
    with started(client):
        say(event="started", cells=len(code))
        for number, (index, cell) in enumerate(code, 1):
            say(event="cell", cell=number)
            start = time.monotonic()
            try:
                client.execute_cell(cell, index, execution_count=number)
                for output in cell.outputs:
                    if "execution_count" in output:
                        output.execution_count = number  # evcxr counts one more: the library, which it loads at its start
                message = failure(cell)
            except CellTimeoutError:
                message = f"it took longer than {request['cell_seconds']} s"
            except (CellExecutionError, DeadKernelError) as error:
                message = COLOURS.sub("", str(error)) or "the kernel died"
            seconds = time.monotonic() - start
            say(event="cell_done", cell=number, seconds=seconds, failed=message, source=cell.source)
            if message and request.get("notebook") and "raises-exception" not in cell.metadata.get("tags", []):
                failed = True
                break
    if request.get("ipynb"):
        write(request["ipynb"], nbformat.writes(notebook) + "\n")
    if request.get("html"):
        write(request["html"], HTMLExporter().from_notebook_node(notebook, {"metadata": {"name": request.get("title", "")}})[0])
    say(event="done", failed=failed)


if __name__ == "__main__":
    main()
