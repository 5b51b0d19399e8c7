"""A kernel that waits, warm, for the next notebook of the same folder, or for the same one's next start.

A kernel that has started, has had rust-analyzer read the standard library, and has no variables yet, answers at once and knows all types.
`tsae lab` asks for one (TSAE_SPARE=1, which it sets unless the user has set it to something else): the launcher starts this file when its
own kernel has been idle for a while, and the next launcher takes what waits.

The spare ends by itself when nobody has taken it for half an hour, when the Jupyter that it waits for is gone, or when the library has
changed; and with the launcher that took it. It holds some 900 MB while it waits, so there is at most one for each folder, and none
where memory is short.

    spares/KEY/lock          held by the spare that waits
    spares/KEY/ready-PID     where it listens; whoever renames this file has taken it
    spares/KEY/taken-PID-BY  by whom
"""

import ctypes
import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid

from session import CONNECTION, HERE, changed_since, environment, make_session, shared_lock
from wire import command, evcxr_address, is_signed, message, parts_of, read, remove_sockets, write_connection, zmq

IDLE = 10  # seconds after which a launcher gets a spare
PATIENCE = 1800  # seconds that a spare waits
LONGEST_CELL = 600  # seconds that a cell of the warm-up may take
LEAST_MEMORY = 3 << 30  # bytes that must be available
# Makes evcxr ask rust-analyzer for a type out of the library, and leaves no variable behind.
WARM_UP = ("let tsae_spare = %s::prelude::HookPoint::resid_pre(0).to_string();", "drop(tsae_spare);")


def is_wanted():
    return os.environ.get("TSAE_SPARE") == "1" and zmq is not None


def place(project):
    """The folder for kernels that are as one that this process would start."""
    env = sorted((k, v) for k, v in os.environ.items() if not k.startswith("JPY_"))
    key = json.dumps([os.getcwd(), project["project"], project["key"], project["template"], env])
    return os.path.join(HERE, "spares", hashlib.sha256(key.encode()).hexdigest()[:16])


def try_lock(path):
    """The open lock, or None if somebody holds it."""
    lock = open(path, "a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return lock
    except OSError:
        lock.close()
        return None


def memory():
    """Bytes that are available, as far as the system says."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            return next(int(line.split()[1]) << 10 for line in file if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return LEAST_MEMORY


def runs(pid):
    try:
        os.kill(pid, 0)
        return True
    except OSError:
        return False


class Taken:
    """A kernel that another launcher started, as subprocess.Popen would show it."""

    def __init__(self, ready):
        self.pid, self.connection, self.counted = ready["evcxr"], ready["connection"], ready["counted"]
        self.session = os.path.join(os.path.dirname(self.connection), "session.lock")
        self.returncode = None

    def poll(self):
        # Its keeper holds this lock as long as it runs, and removes the folder afterwards.
        try:
            lock = try_lock(self.session)
        except FileNotFoundError:
            self.returncode = 0
            return 0
        if lock:
            lock.close()
            self.returncode = 0
        return self.returncode

    def wait(self):
        while self.poll() is None:
            time.sleep(0.05)

    def send_signal(self, number):
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            pass

    def kill(self):
        self.send_signal(signal.SIGKILL)


def take(project):
    """The spare that waits for a kernel like ours, if there is one; it is ours from here on."""
    folder = place(project)
    for name in os.listdir(folder) if os.path.isdir(folder) else []:
        if not name.startswith("ready-"):
            continue
        path, keeper = os.path.join(folder, name), int(name[len("ready-") :])
        try:
            with open(path, encoding="utf-8") as file:
                ready = json.load(file)
            os.rename(path, os.path.join(folder, f"taken-{keeper}-{os.getpid()}"))
        except (OSError, ValueError):
            continue  # somebody else was quicker
        taken = Taken(ready)
        if taken.poll() is None:
            return taken
    return None


def start(project):
    """Starts a spare that outlives this process, if there is none and there is room for one."""
    if memory() < LEAST_MEMORY:
        return
    request = json.dumps({"project": project, "jupyter": os.getppid(), "place": place(project)})
    # It forks, so that this is over at once.
    subprocess.run([sys.executable, __file__, request], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def as_kept():
    """In the process that becomes evcxr: deaf to the stop button, and gone when its keeper is, however that went."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        PR_SET_PDEATHSIG = 1
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def execute(connection_file, code, kernel):
    """Runs a cell in a kernel that nobody else speaks to yet. Whether it ran."""
    connection = read(connection_file)
    key = connection["key"].encode()
    context = zmq.Context()
    shell = context.socket(zmq.DEALER)
    shell.linger = 0
    shell.reconnect_ivl = 20
    shell.connect(evcxr_address(connection, "shell"))
    shell.send_multipart(message(key, "execute_request", {}, command(code), "spare"))
    until = time.monotonic() + LONGEST_CELL
    while kernel.poll() is None and not shell.poll(250) and time.monotonic() < until:
        pass
    answer = shell.recv_multipart() if shell.poll(0) else []
    context.destroy()
    return is_signed(key, answer) and json.loads(parts_of(answer)[3]).get("status") == "ok"


def keep(project, jupyter, folder):
    """Starts a kernel, warms it, and keeps it until it has ended."""
    os.makedirs(folder, exist_ok=True)
    waiting = try_lock(os.path.join(folder, "lock"))
    if not waiting:
        return
    for name in os.listdir(folder):  # what was left by one that was killed
        if name.startswith("ready-"):
            os.remove(os.path.join(folder, name))
    with shared_lock():
        session, alive = make_session(project, True)
    connection = os.path.join(session, CONNECTION)
    write_connection({"key": uuid.uuid4().hex, "signature_scheme": "hmac-sha256"}, connection)
    kernel = subprocess.Popen(
        [project["evcxr"], "--control_file", connection],
        env=environment(project, session, True, True, types=True),
        stdin=subprocess.DEVNULL,
        preexec_fn=as_kept,
    )
    ready, taken = (os.path.join(folder, f"{what}-{os.getpid()}") for what in ("ready", "taken"))
    try:
        library = project["package"].replace("-", "_")
        if all(execute(connection, cell.replace("%s", library), kernel) for cell in WARM_UP):
            with open(ready + ".part", "w", encoding="utf-8") as file:
                json.dump({"evcxr": kernel.pid, "connection": connection, "counted": 1 + len(WARM_UP)}, file)
            os.rename(ready + ".part", ready)
            wait_for_taker(kernel, ready, jupyter, project)
            waiting.close()
            by = [name for name in os.listdir(folder) if name.startswith(os.path.basename(taken) + "-")]
            while by and kernel.poll() is None and runs(int(by[0].rsplit("-", 1)[1])):
                time.sleep(0.5)
            for name in by:
                os.remove(os.path.join(folder, name))
    finally:
        kernel.kill()
        kernel.wait()
        remove_sockets(connection)
        shutil.rmtree(session, ignore_errors=True)
        alive.close()


def wait_for_taker(kernel, ready, jupyter, project):
    """Returns when somebody has taken the kernel, or when it is not to be taken any more."""
    until = time.monotonic() + PATIENCE
    while os.path.exists(ready) and kernel.poll() is None:
        if time.monotonic() > until or not runs(jupyter) or changed_since(project["template"], project):
            try:
                os.remove(ready)
            except FileNotFoundError:
                pass  # taken at the last moment
            return
        time.sleep(0.5)


if __name__ == "__main__":
    if os.fork() == 0:
        os.setsid()
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
        request = json.loads(sys.argv[1])
        keep(request["project"], request["jupyter"], request["place"])
