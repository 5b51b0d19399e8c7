"""What stands before every program that drives a kernel: see `python` in run.rs."""

import json
import os
import re
import tempfile

COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def say(**event):
    print(json.dumps(event), flush=True)


class Sockets:
    """A folder for the sockets of one kernel, as long as this is kept. Nobody else can come by them, as anybody can by a port that was found free."""

    def __init__(self):
        # The whole path of a socket may have some 100 bytes.
        is_short = len(os.fsencode(tempfile.gettempdir())) <= 60
        self.folder = tempfile.TemporaryDirectory(prefix="tsae-", dir=None if is_short else "/tmp")
        self.settings = {"transport": "ipc", "ip": os.path.join(self.folder.name, "jupyter")}


def end_with_parent():
    """Waits until whoever started us is gone, however it went; the launcher ends the kernel when it misses us in its turn."""
    while os.read(0, 1):
        pass
    os._exit(1)
