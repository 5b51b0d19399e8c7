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
