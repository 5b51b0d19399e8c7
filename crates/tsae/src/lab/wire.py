"""Jupyter's protocol over ZeroMQ: where a kernel listens, and how messages are put together, signed and read."""

import datetime
import hashlib
import hmac
import json
import os
import socket
import uuid

try:
    import zmq
except ImportError:
    zmq = None

DELIMITER = b"<IDS|MSG>"
PORTS = ("shell_port", "control_port", "stdin_port", "iopub_port", "hb_port")


def is_possible(connection_file):
    """Whether this Python can stand between."""
    return zmq is not None and bool(read(connection_file).get("shell_port"))


def read(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def free_ports(n):
    """Ports that nobody listens on; all held at once, so that they differ."""
    sockets = [socket.socket() for _ in range(n)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def write_connection(like, path):
    """Writes a connection file for evcxr: with the key of another, and ports of its own."""
    connection = dict(like, transport="tcp", ip="127.0.0.1", **dict(zip(PORTS, free_ports(len(PORTS)))))
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        json.dump(connection, file)


def address(connection, port):
    separator = "-" if connection["transport"] == "ipc" else ":"
    return f"{connection['transport']}://{connection['ip']}{separator}{connection[port]}"


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
