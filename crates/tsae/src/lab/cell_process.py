"""The process that runs the cells, a child of evcxr's, as it is seen from outside.

evcxr tells it what to run by its standard input, which a cell reads as well: what a cell reads there nobody has been asked for, and it would wait for
ever. Linux says in which call a thread waits, and with which buffer. evcxr's own loop, which waits for the next cell, always has the same one; whatever
else waits there is a cell. (Other systems do not say it, nor does one that lets only a process's own ancestors look, of a spare kernel.)
"""

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import termios

READ = {"x86_64": "0", "aarch64": "63", "riscv64": "63"}.get(os.uname().machine)  # the number of the call


def is_cell_process(pid, evcxr):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            name, rest = file.read().split("(", 1)[1].rsplit(")", 1)
    except OSError:
        return False  # ended meanwhile
    return int(rest.split()[1]) == evcxr and name == "evcxr_jupyter"


def cell_processes(evcxr):
    """The processes that run the cells: evcxr's children of its own name (the others are cargo)."""
    if os.path.isdir("/proc/self"):
        yield from (int(pid) for pid in os.listdir("/proc") if pid.isdigit() and is_cell_process(pid, evcxr))
    else:
        listing = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,comm="], stdin=subprocess.DEVNULL, capture_output=True, text=True)
        for line in listing.stdout.splitlines():
            pid, parent, name = line.split(None, 2)
            if int(parent) == evcxr and os.path.basename(name) == "evcxr_jupyter":
                yield int(pid)


def listens(pid):
    """Whether a process has a handler of its own for SIGINT: the library's, which knows better when to end."""
    if not os.path.isdir("/proc/self"):
        return True
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8") as file:
            caught = next(line for line in file if line.startswith("SigCgt:"))
        return int(caught.split()[1], 16) >> (signal.SIGINT - 1) & 1 == 1
    except (OSError, StopIteration):
        return False


class CellProcess:
    """The cells' process of one evcxr, which may end and be followed by another."""

    def __init__(self, evcxr):
        self.evcxr, self.pid, self.own_buffer = evcxr, None, None

    def find(self):
        if not is_cell_process(self.pid, self.evcxr):
            self.pid, self.own_buffer = next(cell_processes(self.evcxr), None), None
        return self.pid

    def write_behind(self, line):
        """Writes a line behind what the cells have written to standard error, into the same pipe. Whether that could be done."""
        return self.write(2, line.encode()) == len(line.encode())

    def type(self, data):
        """Writes to the cells' standard input, and says how many bytes there was room for."""
        return self.write(0, data)

    def write(self, number, data):
        """Writes into a pipe that the process has under a number."""
        path = f"/proc/{self.find()}/fd/{number}"
        try:
            if not os.readlink(path).startswith("pipe:"):
                return 0  # a cell has led it elsewhere
            pipe = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            return 0  # it ended meanwhile, or the system has no /proc
        try:
            return os.write(pipe, data)
        except OSError:
            return 0
        finally:
            os.close(pipe)

    def note_own_buffer(self):
        """To be called while evcxr's loop waits."""
        if self.find() and not self.own_buffer:
            self.own_buffer = self.buffer_of(self.pid)

    def reads_input(self):
        """Whether a cell waits for standard input."""
        if not self.own_buffer or not self.find():
            return False
        with contextlib.suppress(OSError):
            buffers = {self.buffer_of(int(thread)) for thread in os.listdir(f"/proc/{self.pid}/task")}
            return bool(buffers - {None, self.own_buffer}) and not self.has_input()
        return False

    def buffer_of(self, thread):
        """Where a thread that waits for standard input wants it."""
        try:
            with open(f"/proc/{self.pid}/task/{thread}/syscall", encoding="ascii") as file:
                call, *arguments = file.read().split()
        except (OSError, ValueError):
            return None
        return arguments[1] if call == READ and arguments[0] == "0x0" else None

    def has_input(self):
        """Whether there is some that the thread has not taken yet."""
        pipe = os.open(f"/proc/{self.pid}/fd/0", os.O_RDONLY | os.O_NONBLOCK)
        try:
            return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, b"\0" * 4), sys.byteorder) > 0
        finally:
            os.close(pipe)

    def kill(self):
        """Ends the process that was last looked at, and with it the variables; evcxr starts another, which may have happened meanwhile."""
        if is_cell_process(self.pid, self.evcxr):
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
