"""What stands before the programs in these tests that drive a kernel."""

import json
import os
import sys
import tempfile

from jupyter_client.manager import KernelManager


class Kernel(KernelManager):
    """A kernel at sockets in a folder of its own, which nobody else can come by; or at ports, as most programs start one."""

    def __init__(self, transport):
        # Removed when this is gone.
        self.folder = tempfile.TemporaryDirectory(prefix="tsae-", dir="/tmp") if transport == "ipc" else None
        where = {"transport": "ipc", "ip": os.path.join(self.folder.name, "jupyter")} if self.folder else {}
        super().__init__(kernel_name="tsae-rust", **where)


def started(kernel, seconds=600):
    """A client of the kernel, which has answered it."""
    kernel.start_kernel()
    client = kernel.client()
    client.start_channels()
    client.wait_for_ready(timeout=seconds)
    return client


def start(transport="ipc"):
    kernel = Kernel(transport)
    return kernel, started(kernel)


def messages(client, request):
    """What a kernel publishes of a request: kinds and contents, to the end."""
    while True:
        message = client.get_iopub_msg(timeout=600)
        if message["parent_header"].get("msg_id") == request:
            yield message["msg_type"], message["content"]
            if message["content"].get("execution_state") == "idle":
                return


def answer(client, request):
    """What a cell printed, and its number."""
    text, number = "", None
    for _, content in messages(client, request):
        text += content.get("text", "") + "".join(content.get("traceback", [])) + content.get("data", {}).get("text/plain", "")
        number = content.get("execution_count", number)
    return text.strip(), number


def run(client, code):
    """What a cell printed, and its number."""
    return answer(client, client.execute(code))
