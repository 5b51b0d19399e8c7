"""Jupyter's protocol over ZeroMQ: where a kernel listens, and how messages are put together, signed and read."""

import contextlib
import datetime
import hashlib
import hmac
import json
import os
import shutil
import sys
import tempfile
import uuid

try:
    import zmq
except ImportError:
    zmq = None

DELIMITER = b"<IDS|MSG>"
CHANNELS = ("shell", "control", "stdin", "iopub", "hb")
LONGEST_TEMPORARY = 60  # bytes: the whole path of a socket may have some 100


def is_possible(connection_file):
    """Whether this Python can stand between."""
    return zmq is not None and bool(read(connection_file).get("shell_port"))


def read(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def write_connection(like, path):
    """Writes a connection file for evcxr: with the key of another, and with sockets of its own.

    They lie in a new folder that only this user can enter. A port, in contrast, is anybody's from the moment that it is found free until
    evcxr listens there, seconds later. Linux gives such ports out at random and only every other one, 14,000 in all: of the forty that four
    kernels look for at once, two are the same one time in twenty. Then one evcxr ends, or its relay speaks to the other's; and evcxr hears no
    more cells once a message has come whose key it has not.
    """
    is_short = len(os.fsencode(tempfile.gettempdir())) <= LONGEST_TEMPORARY
    try:
        folder = tempfile.mkdtemp(prefix="tsae-", dir=None if is_short else "/tmp")
    except OSError as error:
        sys.exit(f"the kernel has no place for its sockets: {error}")
    connection = dict(like, transport="ipc", ip=os.path.join(folder, "evcxr"), **{f"{channel}_port": n for n, channel in enumerate(CHANNELS, 1)})
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        json.dump(connection, file)


def remove_sockets(path):
    """Removes the folder of the sockets that a connection file tells of, if it is one of ours."""
    try:
        folder = os.path.dirname(read(path)["ip"])
    except (OSError, ValueError, KeyError):
        return
    if os.path.basename(folder).startswith("tsae-"):
        shutil.rmtree(folder, ignore_errors=True)


def address(connection, channel):
    """Where a channel is, as Jupyter names it."""
    separator = "-" if connection["transport"] == "ipc" else ":"
    return f"{connection['transport']}://{connection['ip']}{separator}{connection[channel + '_port']}"


def evcxr_address(connection, channel):
    """Where a channel is, as evcxr names it."""
    return f"{connection['transport']}://{connection['ip']}:{connection[channel + '_port']}"


def lend_names(connection):
    """Where evcxr itself is to listen at Jupyter's sockets, if they are files: has those found that evcxr will make."""
    if connection["transport"] == "ipc":
        for channel in CHANNELS:
            with contextlib.suppress(FileExistsError):
                os.symlink(evcxr_address(connection, channel)[len("ipc://") :], address(connection, channel)[len("ipc://") :])


def parts_of(frames):
    """Header, parent's header, metadata and content of a message."""
    start = frames.index(DELIMITER) + 2
    return frames[start : start + 4]


def signed(key, parts):
    """A message's frames, from the delimiter on: delimiter, signature, parts."""
    signature = hmac.new(key, digestmod=hashlib.sha256)
    for part in parts:
        signature.update(part)
    return [DELIMITER, signature.hexdigest().encode() if key else b"", *parts]


def is_signed(key, frames):
    """Whether this is a message, and from somebody who has the key."""
    if DELIMITER not in frames or len(parts_of(frames)) < 4:
        return False
    _, want, *_ = signed(key, parts_of(frames))
    return hmac.compare_digest(want, frames[frames.index(DELIMITER) + 1])


def message(key, kind, parent, content, session):
    header = {
        "msg_id": uuid.uuid4().hex,
        "username": "kernel",
        "session": session,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(),
        "msg_type": kind,
        "version": "5.3",
    }
    return signed(key, [json.dumps(part).encode() for part in (header, parent, {}, content)])


def with_content(frames, content):
    """The message with another content, which must be signed again."""
    end = frames.index(DELIMITER) + 5
    return [*frames[:end], json.dumps(content).encode(), *frames[end + 1 :]]


def command(code):
    """What an `execute_request` of ours holds."""
    return {"code": code, "silent": False, "store_history": False, "allow_stdin": False, "stop_on_error": True}
