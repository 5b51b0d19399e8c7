"""Times the start of a kernel and each of some cells, and says so, one JSON object a line on stdout.

The request comes as a line of JSON on stdin, whose end is also ours: `kernel`, its name; `folder`, where the cells run; `seconds`, the
longest that the start or a cell may take; `cells`, their sources; `spares`, the folder of spare kernels, if one is to wait, or `null`.

The answers: `{"event": "started", "seconds": s}` when the kernel has answered what it is, `{"event": "cell", "seconds": s, "printed": text,
"shown": bool}` for each cell, whose end is when the kernel has replied and says that it is idle, and `{"event": "done"}`. What goes wrong ends
the program with an exit status of 1 and a text on stderr. As in run_notebook.py, whatever a cell writes to stderr is an error.
"""

import glob
import json
import os
import queue
import re
import sys
import threading
import time

from jupyter_client.manager import KernelManager


class Kernel:
    """A kernel that counts as started when it has answered a kernel_info_request."""

    def __init__(self, request):
        self.limit = request["seconds"]
        self.sockets = Sockets()
        self.manager = KernelManager(kernel_name=request["kernel"], **self.sockets.settings)
        start = time.monotonic()
        self.manager.start_kernel(cwd=request["folder"])
        try:
            self.client = self.manager.client()
            self.client.start_channels()
            self.client.kernel_info()
            self.receive(self.client.get_shell_msg, start)
            self.start_seconds = time.monotonic() - start
            self.listen()
        except BaseException:
            self.end()
            raise

    def receive(self, get, start):
        while True:
            try:
                return get(timeout=1)
            except queue.Empty:
                if not self.manager.is_alive():
                    sys.exit("the kernel ended")
                if time.monotonic() - start > self.limit:
                    sys.exit(f"the kernel did not answer within {self.limit} s")

    def listen(self):
        """Waits until what the kernel publishes reaches us: what it publishes before that is lost, and with it the end of a cell."""
        for _ in range(60):
            self.client.kernel_info()
            try:
                while True:
                    message = self.client.get_iopub_msg(timeout=0.3)
                    if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                        return
            except queue.Empty:
                pass
        sys.exit("the kernel publishes nothing")

    def run(self, source):
        """Seconds, what was printed, and whether something was shown."""
        start = time.monotonic()
        request = self.client.execute(source, allow_stdin=False)
        printed, shown, idle = "", False, False
        while not idle:
            message = self.receive(self.client.get_iopub_msg, start)
            kind, content, of = message["msg_type"], message["content"], message["parent_header"].get("msg_id")
            if of != request:
                continue
            if kind == "error":
                self.fail(source, "\n".join(content["traceback"]))
            elif kind == "stream" and content["name"] == "stderr":
                text = re.sub(r"(?m)^\s*Compiling .*\n?", "", content["text"])
                if text.strip():
                    self.fail(source, text)
            elif kind == "stream":
                printed += content["text"]
            elif kind in ("execute_result", "display_data"):
                shown = True
            elif kind == "status":
                idle = content["execution_state"] == "idle"
        while self.receive(self.client.get_shell_msg, start)["parent_header"].get("msg_id") != request:
            pass
        return time.monotonic() - start, printed, shown

    def fail(self, source, message):
        sys.exit(f"{COLOURS.sub('', message).strip()}\n--- the cell ---\n{source}")

    def end(self):
        self.manager.shutdown_kernel()


def with_spare(request):
    """A kernel for which a spare has been made ready; the next one that is started takes it."""
    ready = lambda: set(glob.glob(os.path.join(request["spares"], "*", "ready-*")))
    there = ready()
    os.environ["TSAE_SPARE"] = "1"
    kernel = Kernel(request)
    until = time.monotonic() + request["seconds"]
    while not ready() - there:
        if time.monotonic() > until:
            kernel.end()
            sys.exit(f"no spare kernel was ready within {request['seconds']} s; there is none where memory is short")
        time.sleep(0.2)
    return kernel


def main():
    request = json.loads(sys.stdin.readline())
    threading.Thread(target=end_with_parent, daemon=True).start()
    before = with_spare(request) if request["spares"] else None
    kernel = Kernel(request)
    if before:
        before.end()
    try:
        say(event="started", seconds=kernel.start_seconds)
        for source in request["cells"]:
            seconds, printed, shown = kernel.run(source)
            say(event="cell", seconds=seconds, printed=printed, shown=shown)
    finally:
        kernel.end()
    say(event="done")


if __name__ == "__main__":
    main()
