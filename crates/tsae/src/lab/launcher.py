"""Starts evcxr for one notebook, in a private copy of the warmed build folder.

Jupyter runs this as `launcher.py CONNECTION_FILE`. It stays while the kernel runs, and does six things evcxr does not do:

* it gives each notebook its own hard-linked copy of the compiled library, and removes it at the end;
* it keeps an interrupt (SIGINT) away from evcxr, which would end, so that only the library sees it and stops with what it has. If the
  library does not listen, a second one within three seconds ends the cells' process, and with it the variables, as evcxr's own does;
* it lets bars move and figures grow while a cell runs: see relay.py;
* it keeps a warm kernel ready for the next notebook, if asked to: see spare.py;
* it ends the kernel when the Jupyter that started it is gone;
* it shields the build from settings meant for other builds (RUSTFLAGS, CARGO_TARGET_DIR, …), which would compile everything again.

It runs under any Python 3.9 or later, and needs nothing but the standard library, and pyzmq for the relay.
"""

import contextlib
import glob
import os
import shutil
import signal
import subprocess
import sys
import time

import relay
import spare
import wire
from cell_process import CellProcess, cell_processes, listens
from session import CONNECTION, changed_since, choose_project, copy_tree, edited_since, environment, forget_cells, locked, make_session, restored
from session import shared_lock, show

SECOND_PRESS = 3.0  # seconds


class Canary:
    """Tells a signal to the whole process group, which JupyterLab sends, from one to this process alone, which VS Code sends.

    It is a process in our group that a SIGINT ends; and so does our own end, since that closes its input.
    """

    def __init__(self):
        self.process = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)

    def was_hit(self):
        try:
            self.process.wait(timeout=0.1)
        except subprocess.TimeoutExpired:
            return False
        self.process.stdin.close()
        self.__init__()
        return True

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def begin(project, folder, outer_file, is_fresh, is_live, kept=()):
    """Starts evcxr in a session's folder. Its process, and the connection file by which it listens."""
    inner_file = outer_file
    if is_live:
        inner_file = os.path.join(folder, CONNECTION)
        wire.remove_sockets(inner_file)  # of one that did not answer
        wire.write_connection(wire.read(outer_file), inner_file)
    else:
        wire.lend_names(wire.read(outer_file))
    kernel = subprocess.Popen(
        [project["evcxr"], "--control_file", inner_file],
        env=environment(project, folder, is_fresh, is_live, types=not is_live),
        stdin=subprocess.DEVNULL,
        pass_fds=kept,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    return kernel, inner_file


def kill(kernel):
    for pid in cell_processes(kernel.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    kernel.kill()


def wait_a_second(kernel):
    try:
        kernel.wait(timeout=1)
    except subprocess.TimeoutExpired:
        pass


def main():
    if sys.argv[1] == "--copy":
        copy_tree(sys.argv[2], sys.argv[3])
        return
    connection_file, started, parent = sys.argv[1], time.time_ns(), os.getppid()
    between = None
    warming = os.environ.get("TSAE_WARM")  # the set-up fills this folder itself
    if warming:
        # Every process of a set-up that was killed has this lock too, so this waits until the last of them is gone.
        lock = locked(warming)
        for pattern in ("*.used", "link.*"):  # what it left
            for path in glob.glob(os.path.join(warming, "target", "release", "deps", pattern)):
                shutil.rmtree(path) if os.path.isdir(path) else os.remove(path)
        forget_cells(warming)
        os.dup2(2, 9)  # for rustc-wrapper, whose own standard error cargo keeps
        project, folder, kernel = choose_project(), warming, None
        is_fresh = is_live = wants_spare = False
    else:
        is_live = os.environ.get("TSAE_LIVE") != "off" and wire.is_possible(connection_file)
        if is_live:
            between = relay.Relay(connection_file)
        with shared_lock():
            project = choose_project()
            is_fresh = not changed_since(project["template"], project)
            wants_spare = is_live and is_fresh and spare.is_wanted()
            kernel = spare.take(project) if wants_spare else None
            folder, lock = (None, None) if kernel else make_session(project, is_fresh)

    last_press = [-SECOND_PRESS]
    canary = Canary()
    is_taken, is_second, complaint = kernel is not None, False, None
    if is_taken:
        inner_file = kernel.connection
    else:
        kernel, inner_file = begin(project, folder, connection_file, is_fresh, is_live, (9, lock.fileno()) if warming else ())

    def on_interrupt(_signal, _frame):
        now = time.monotonic()
        if between:
            between.stop_was_pressed = True
        hit = canary.was_hit()
        for pid in cell_processes(kernel.pid):
            if listens(pid):
                if is_taken or not hit:  # a spare is in a process group of its own
                    os.kill(pid, signal.SIGINT)
            elif now - last_press[0] < SECOND_PRESS:
                os.kill(pid, signal.SIGKILL)
        last_press[0] = now

    def on_terminate(number, _frame):
        kernel.send_signal(number)

    signal.signal(signal.SIGINT, on_interrupt)
    signal.signal(signal.SIGTERM, on_terminate)

    def attach():
        here = os.path.dirname(inner_file)
        between.attach(
            inner_file,
            lambda: restored(project, here),
            None if is_taken else lambda: show(project, here, True),
            lambda: edited_since(started, project),
            CellProcess(kernel.pid),
            kernel.counted if is_taken else 1,
        )

    if between:
        attach()
    while kernel.poll() is None:
        if between:
            between.turn()
            if wants_spare and between.idle() > spare.IDLE:
                wants_spare = False
                spare.start(project)
            if between.trouble and not between.is_open and not is_second:
                # Nobody has seen this one yet: another takes its place.
                kill(kernel)
                kernel.wait()
                if is_taken:
                    with shared_lock():
                        folder, lock = make_session(project, is_fresh)
                is_taken, is_second = False, True
                kernel, inner_file = begin(project, folder, connection_file, is_fresh, is_live)
                attach()
            elif between.trouble and not complaint:
                complaint = between.give_up()
                kill(kernel)
        else:
            wait_a_second(kernel)
        if os.getppid() != parent:
            kill(kernel)
            wire.remove_sockets(connection_file)
            # And cargo, which would finish the crates it has begun, and keep its locks as long.
            if os.getpgrp() == os.getpid():
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                os.killpg(0, signal.SIGTERM)
            kernel.wait()
    code = kernel.returncode
    if between:
        between.end()
    canary.end()
    if not warming and not is_taken:
        wire.remove_sockets(inner_file)
        shutil.rmtree(folder, ignore_errors=True)
    if lock:
        lock.close()
    sys.exit(complaint or (code if code >= 0 else 128 - code))


if __name__ == "__main__":
    main()
