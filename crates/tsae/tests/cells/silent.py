"""Has kernels meet what should not be: a port that is taken, and an evcxr that stands still, before it has begun and when it has a cell to run."""

import os
import signal
import socket
import subprocess
import time


def children(pid):
    listing = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    return [int(child) for child, parent in map(str.split, listing.splitlines()) if int(parent) == pid]


def evcxr_of(kernel):
    """The process that serves the cells, as soon as it is there."""
    while True:
        for pid in children(kernel.provisioner.pid):
            listing = subprocess.run(["ps", "-o", "args=", "-p", str(pid)], capture_output=True, text=True)
            if "--control_file" in listing.stdout and "launcher" not in listing.stdout:
                return pid
        time.sleep(0.01)


def told_of_a_taken_port():
    """How a kernel ends whose port another program has, and what it says."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        kernel = Kernel("tcp")
        kernel.shell_port = other.getsockname()[1]
        kernel.cache_ports = False
        kernel.start_kernel(stderr=subprocess.PIPE)
        process = kernel.provisioner.process
        told = process.stderr.read().decode()
        return {"status": process.wait(timeout=60), "told": told}


def told_of_a_cell(client, code):
    """What becomes of a cell."""
    request = client.execute(code)
    kinds = [kind if kind != "error" else content["evalue"] for kind, content in messages(client, request)]
    reply = client.get_shell_msg(timeout=60)
    while reply["parent_header"].get("msg_id") != request:
        reply = client.get_shell_msg(timeout=60)
    return {"told": kinds, "status": reply["content"]["status"]}


def main():
    seen = {"port": told_of_a_taken_port()}

    kernel, client = start()
    os.kill(evcxr_of(kernel), signal.SIGSTOP)
    seen["cell"] = told_of_a_cell(client, 'println!("never");')
    seen["ended"] = kernel.provisioner.process.wait(timeout=60)
    kernel.shutdown_kernel(now=True)

    print(json.dumps(seen))


main()
