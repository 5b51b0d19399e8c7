"""Starts evcxr for one notebook, in a private copy of the warmed build folder.

Jupyter runs this as `launcher.py CONNECTION_FILE`. It stays while the kernel runs, and does five things evcxr does not do:

* it gives each notebook its own hard-linked copy of the compiled library, and removes it at the end;
* it keeps an interrupt (SIGINT) away from evcxr, which would end, so that only the library sees it and stops with what it has. If the
  library does not listen, a second one within three seconds ends the cells' process, and with it the variables, as evcxr's own does;
* it lets bars move and figures grow while a cell runs: see relay.py;
* it ends the kernel when the Jupyter that started it is gone;
* it shields the build from settings meant for other builds (RUSTFLAGS, CARGO_TARGET_DIR, …), which would compile everything anew.

It runs under any Python 3.9 or later, and needs nothing but the standard library, and pyzmq for the relay.
"""

import fcntl
import glob
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import relay

HERE = os.path.dirname(os.path.abspath(__file__))
SECOND_PRESS = 3.0  # seconds


def choose_project():
    """The set-up project that the notebook lies in, or else the one that was set up last."""
    if "TSAE_PROJECT" in os.environ:
        with open(os.environ["TSAE_PROJECT"], encoding="utf-8") as file:
            return json.load(file)
    folder = os.path.join(HERE, "projects")
    projects = []
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if name.endswith(".json"):
            with open(path, encoding="utf-8") as file:
                project = json.load(file)
            if os.path.isdir(project["template"]):
                projects.append((os.path.getmtime(path), project))
    if not projects:
        sys.exit(f"nothing is set up in {HERE}: run `tsae lab` once")
    here = os.path.realpath(os.getcwd())
    inside = [p for p in projects if (here + os.sep).startswith(p[1]["project"] + os.sep)]
    return max(inside or projects, key=lambda p: p[0])[1]


def changed_since(template, project):
    """Whether a source file of the library is newer than its compiled copy."""
    built = os.stat(os.path.join(template, ".ready")).st_mtime_ns
    try:
        return any(os.stat(path).st_mtime_ns > built for path in project["sources"])
    except OSError:
        return True


def copy_tree(source, target):
    """Copies `source` to `target`: hard links for compiled crates, which cargo replaces; real copies for all that is written in place,
    above all the cells' own source, or two kernels would compile each other's cells."""
    for folder, folders, files in os.walk(source):
        here = os.path.join(target, os.path.relpath(folder, source))
        os.makedirs(here, exist_ok=True)
        compiled = os.path.relpath(folder, source).split(os.sep)[0] == "target"
        private = not compiled or ".fingerprint" in folder or "incremental" in folder
        for name in files:
            if name in (".ready", ".cargo-lock", "session.lock") or name.endswith(".used"):
                continue
            if private or "ctx" in name or name.endswith((".json", ".d")):
                shutil.copy2(os.path.join(folder, name), os.path.join(here, name))
            else:
                try:
                    os.link(os.path.join(folder, name), os.path.join(here, name))
                except OSError:
                    shutil.copy2(os.path.join(folder, name), os.path.join(here, name))


def remove_dead_sessions(folder):
    """Removes the folders of kernels that were killed: theirs are the locks that nobody holds."""
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        try:
            with open(os.path.join(path, "session.lock"), "a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
        except FileNotFoundError:
            if time.time() - os.stat(path).st_mtime > 60:  # not one that is being made right now
                shutil.rmtree(path, ignore_errors=True)
        except OSError:
            pass  # in use


def shared_lock():
    """Held while a warmed folder is copied, so that no set-up removes it meanwhile."""
    lock = open(os.path.join(HERE, "templates.lock"), "a")
    fcntl.flock(lock, fcntl.LOCK_SH)
    return lock


def locked(folder):
    """The open lock that marks a folder as in use."""
    lock = open(os.path.join(folder, "session.lock"), "a")
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def make_session(project):
    """A private copy of the warmed folder, and the open lock that marks it as alive."""
    sessions = os.path.join(HERE, "sessions")
    os.makedirs(sessions, exist_ok=True)
    remove_dead_sessions(sessions)
    folder = os.path.join(sessions, f"{int(time.time())}-{os.getpid()}")
    os.makedirs(folder)
    lock = locked(folder)
    copy_tree(project["template"], folder)
    return folder, lock


def environment(project, folder, preload, is_live):
    """The environment of evcxr: the user's, less what would change how the library is compiled."""
    kept = ("CARGO_HOME", "CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTRIES_", "CARGO_REGISTRY_", "CARGO_SOURCE_")
    env = {}
    for name, value in os.environ.items():
        if name.startswith("CARGO") and not name.startswith(kept):
            continue
        if name.startswith(("RUSTC", "RUSTFLAGS", "RUSTDOCFLAGS")) or name == "EVCXR_IS_RUNTIME":
            continue
        env[name] = value
    config = os.path.join(folder, "evcxr-config")
    os.makedirs(config, exist_ok=True)
    with open(os.path.join(config, "init.evcxr"), "w", encoding="utf-8") as file:
        if preload:
            # Written exactly as evcxr writes a cell's `{ path = ".." }`, so that the cell's own :dep line changes nothing.
            file.write(':dep {} = {{ path = "{}" }}\n'.format(project["package"], project["project"]))
    env["EVCXR_TMPDIR"] = folder
    env["EVCXR_CONFIG_DIR"] = config
    env["RUSTUP_TOOLCHAIN"] = project["toolchain"]
    env["PATH"] = os.path.join(project["toolchain"], "bin") + os.pathsep + env.get("PATH", os.defpath)
    env["JUPYTER_PATH"] = folder  # evcxr rewrites the user's own "Rust" kernel if it finds it
    env["RUST_BACKTRACE"] = "0"  # of evcxr itself; cells have one all the same
    env["TSAE_LOCK"] = project["lock"]
    env["TSAE_PYTHON"] = sys.executable
    env["TSAE_METADATA"] = os.path.join(HERE, "metadata.py")
    env["TSAE_KERNEL"] = "1"
    if is_live:
        env["TSAE_LIVE"] = "1"
    else:
        env.pop("TSAE_LIVE", None)
    env["RUST_SRC_PATH"] = project["std"]
    return env


def cell_processes(evcxr):
    """The processes that run the cells: evcxr's children of its own name (the others are cargo)."""
    if os.path.isdir("/proc/self"):
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
                    name, rest = file.read().split("(", 1)[1].rsplit(")", 1)
            except OSError:
                continue  # ended meanwhile
            if int(rest.split()[1]) == evcxr and name == "evcxr_jupyter":
                yield int(pid)
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


def wait_a_second(kernel):
    try:
        kernel.wait(timeout=1)
    except subprocess.TimeoutExpired:
        pass


def main():
    if sys.argv[1] == "--copy":
        copy_tree(sys.argv[2], sys.argv[3])
        return
    connection_file = sys.argv[1]
    warming = os.environ.get("TSAE_WARM")  # the set-up fills this folder itself
    if warming:
        # Every process of a set-up that was killed has this lock too, so this waits until the last of them is gone.
        lock = locked(warming)
        for pattern in ("*.used", "link.*"):  # what it left
            for path in glob.glob(os.path.join(warming, "target", "*", "debug", "deps", pattern)):
                shutil.rmtree(path) if os.path.isdir(path) else os.remove(path)
        os.dup2(2, 9)  # for rustc-wrapper, whose own standard error cargo keeps
        project, folder = choose_project(), warming
    else:
        with shared_lock():
            project = choose_project()
            folder, lock = make_session(project)
    preload = not warming and not changed_since(project["template"], project)

    is_live = not warming and os.environ.get("TSAE_LIVE") != "off" and relay.is_possible(connection_file)
    inner_file = os.path.join(folder, "connection.json") if is_live else connection_file
    if is_live:
        relay.inner_file(connection_file, inner_file)

    between = None
    last_press = [-SECOND_PRESS]
    canary = Canary()
    kernel = subprocess.Popen(
        [project["evcxr"], "--control_file", inner_file],
        env=environment(project, folder, preload, is_live),
        stdin=subprocess.DEVNULL,
        pass_fds=(9, lock.fileno()) if warming else (),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )

    def on_interrupt(_signal, _frame):
        now = time.monotonic()
        if between:
            between.stop_was_pressed = True
        hit = canary.was_hit()
        for pid in cell_processes(kernel.pid):
            if listens(pid):
                if not hit:
                    os.kill(pid, signal.SIGINT)
            elif now - last_press[0] < SECOND_PRESS:
                os.kill(pid, signal.SIGKILL)
        last_press[0] = now

    def on_terminate(number, _frame):
        kernel.send_signal(number)

    signal.signal(signal.SIGINT, on_interrupt)
    signal.signal(signal.SIGTERM, on_terminate)
    parent = os.getppid()
    between = relay.Relay(connection_file, inner_file) if is_live else None
    while kernel.poll() is None:
        if between:
            between.turn()
        else:
            wait_a_second(kernel)
        if os.getppid() != parent:
            for pid in cell_processes(kernel.pid):
                os.kill(pid, signal.SIGKILL)
            kernel.kill()
            # And cargo, which would finish the crates it has begun, and keep its locks as long.
            if os.getpgrp() == os.getpid():
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                os.killpg(0, signal.SIGTERM)
            kernel.wait()
    code = kernel.returncode
    if between:
        between.end()
    canary.end()
    if not warming:
        shutil.rmtree(folder, ignore_errors=True)
    lock.close()
    sys.exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
