"""What stands before the programs in these tests that drive a kernel."""

import json
import sys

from jupyter_client.manager import KernelManager


def start():
    kernel = KernelManager(kernel_name="tsae-rust")
    kernel.start_kernel()
    client = kernel.client()
    client.start_channels()
    client.wait_for_ready(timeout=600)
    return kernel, client


def run(client, code):
    """What a cell printed, and its number."""
    request = client.execute(code)
    text, number = "", None
    while True:
        message = client.get_iopub_msg(timeout=600)
        if message["parent_header"].get("msg_id") == request:
            content = message["content"]
            text += content.get("text", "") + "".join(content.get("traceback", [])) + content.get("data", {}).get("text/plain", "")
            number = content.get("execution_count", number)
            if content.get("execution_state") == "idle":
                return text.strip(), number
