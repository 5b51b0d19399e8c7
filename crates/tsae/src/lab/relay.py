"""Stands between Jupyter and evcxr, and turns marked lines of a cell's output into displays that are redrawn in place.

evcxr knows only text that follows text, and one display at the end of a cell: no bar could move, and no curve grow while a model trains.
So the library prints a line of its own for each picture,

    \\x1eTSAE {"id": "…", "update": false, "data": {"text/html": "…", "text/plain": "…"}}

and what arrives at the notebook is `display_data`, or `update_display_data` for a picture that is there already. A mark without a picture ends a
line that a cell has left open, and `\\x1eTSAE failed` says that the cell has failed: see cell.sed.

evcxr may answer a cell before it has passed on the last of what the cell wrote, to standard error above all, and a notebook that has the
answer listens no more. So answers wait here: a line of ours is written behind what the cell wrote, and when that comes out, so has all else.
(evcxr has one thread for both streams, and is through with the lines of standard output, but for passing on the last, when it answers.)
evcxr says that it is idle again after it has answered, and on a busy machine that may come later than our line; the notebook is told of it before
it is told of any other cell, or it would wait for this one for ever.

To evcxr a cell that panics, or ends with a failing `?`, has run well, and only wrote to standard error; here that becomes its error: see
stderr_capture.py.

Cells that wait for their turn wait here. When one before them fails, or the stop button is pressed, they are given back unrun, as every
Jupyter kernel does and evcxr does not: else "Run all" would go on over a cell that failed. All other messages pass as they are.

Both sides speak Jupyter's protocol over ZeroMQ; messages are signed again where the keys differ, as a spare kernel's does (spare.py):

    Jupyter  ⇄  ROUTER shell, control, stdin  ⇄  DEALER  ⇄  evcxr
             ←  PUB iopub                     ←  SUB     ←
             ⇄  REP heartbeat                    DEALER  ⇄  heartbeat

Jupyter finds free ports and lets them go again before it starts us, so they are taken here before anything else is done: whoever found the same
ones meanwhile is told so by an error, and not by a stranger's silence. evcxr's sockets are in a folder of its own: see wire.py. Whatever comes from
there must be signed with our key, and what opens the relay must answer a question of ours.

Nobody waits without an end. evcxr says that it is busy when it takes a request, and answers its heartbeat at any time; where one of these fails to
come, the cell is answered with an error, and the kernel ends: what it knew is beyond reach.

Before the first cell that leaves a type to be found, and the first question for completions or help, rust-analyzer is shown the standard
library; until then it sees nothing, and costs nothing: see lets.py.

Needs pyzmq, which comes with every Jupyter. Without it the kernel runs as it would without this file, with plain lines.
"""

import json
import os
import re
import sys
import time
import uuid

from cell_input import CellInput
from lets import need_types
from stderr_capture import StderrCapture
from wire import DELIMITER, address, command, evcxr_address, is_signed, message, parts_of, read, signed, with_content, zmq

MARK = "\x1eTSAE "
REQUESTS = ("shell", "control", "stdin")
# A command that changes a line of evcxr's Cargo.toml, which makes its rust-analyzer load everything again, and nothing else: the profile that
# counts is cargo-config.toml's.
RELOAD = ":opt 2 # with all types"
OUTDATED = (
    "The library (or the Rust compiler) has changed since this kernel started, which keeps using the old one: "
    "restart the kernel to use it as it is.\n"
)
FAILED = MARK + "failed\n"
END = MARK + "end of cell "
PATIENCE = 0.25  # seconds between two looks at whether the kernel still runs
# Seconds that an answer waits for what the cell wrote last: until our line has come, or where none could be written.
LONGEST_WAIT, BLIND_WAIT = 10.0, 0.05
PULSE = 1.0  # seconds between two heartbeats
# Seconds that may pass: until evcxr takes a request when it has nothing else to do; without a heartbeat, which a machine short of memory may
# hold back, while it starts or runs a cell; until it has started.
LONGEST_PAUSE, LONGEST_SILENCE, LONGEST_START = 10.0, 60.0, 600.0


class Cell:
    """The cell that evcxr works on, and what is kept of it until it has ended."""

    def __init__(self, frames):
        self.frames = frames
        self.header, _, _, content = map(json.loads, parts_of(frames))
        self.code = content["code"]
        self.stderr = StderrCapture()
        self.input = CellInput(frames, content)
        self.reply = None  # evcxr's answer, until all that the cell wrote has come
        self.reply_until = None  # when the answer is not held back any more for what the cell wrote
        self.idle = None  # what says that evcxr is idle again, which may come before the answer, or after it
        self.error = None  # what evcxr says is wrong

    def asked(self, parent):
        """Whether a message belongs to it."""
        return parent.get("msg_id") == self.header["msg_id"]

    def is_over(self):
        """Whether all has come that evcxr says of it. To a notebook it ends when evcxr is idle again, so that comes before what follows it."""
        now = time.monotonic()
        return self.reply and now >= self.reply_until and (self.idle or now >= self.reply_until + LONGEST_WAIT)


class Relay:
    """Both sides' sockets, and what passes between them."""

    def __init__(self, outer_file):
        outer = read(outer_file)
        self.key = outer["key"].encode()
        self.context = zmq.Context()
        self.poller = zmq.Poller()
        self.ways = {}  # where what comes in at a socket goes out; and Jupyter's side of each channel, by its name
        for channel in REQUESTS:
            self.ways[channel] = self.bind(zmq.ROUTER, outer, channel)
        self.requests = [self.ways[channel] for channel in REQUESTS]
        self.publisher = self.bind(zmq.PUB, outer, "iopub")
        self.heart = self.bind(zmq.REP, outer, "hb")
        self.poller.register(self.heart, zmq.POLLIN)
        self.session = f"relay {uuid.uuid4().hex}"
        self.inner = []
        self.running = None  # the cell that evcxr works on
        self.waiting = []
        self.sent_away = []
        self.last_cell = time.monotonic()  # when one last began or ended
        self.stop_was_pressed = False  # set by a signal handler, which may not touch a socket

    def attach(self, inner_file, hindrance, reveal, is_outdated, process, counted=1):
        """Turns to an evcxr, which opens the relay when it answers.

        `counted` is how many cells evcxr has counted before the reader's first; `hindrance` says why a cell cannot run now, or None; `reveal`
        shows rust-analyzer all types, or is None if it has seen them; `is_outdated` says whether the library has been edited since;
        `process` is the one that runs the cells.
        """
        self.hindrance, self.reveal, self.is_outdated, self.process = hindrance, reveal, is_outdated, process
        inner = read(inner_file)
        self.folder = os.path.dirname(inner_file)
        self.inner_key, self.counted = inner["key"].encode(), counted
        for one in self.inner:
            self.poller.unregister(one)
            one.close()
        self.inner = []
        for channel in REQUESTS:
            jupyter, evcxr = self.ways[channel], self.connect(zmq.DEALER, inner, channel)
            self.ways[jupyter], self.ways[evcxr] = evcxr, jupyter
        self.output = self.connect(zmq.SUB, inner, "iopub")
        self.output.subscribe(b"")
        self.probe = self.connect(zmq.DEALER, inner, "shell")
        self.pulse = self.connect(zmq.DEALER, inner, "hb")
        self.is_open = False
        self.trouble = None  # why this evcxr is given up
        self.asked = 0.0
        self.turned = time.monotonic()
        self.clock = self.heard = self.owed = 0.0  # seconds of turns; when evcxr's heart last beat, and when a request began to wait for it
        self.untaken, self.is_free = 0, True  # requests that evcxr has not taken, and whether it says that it is idle

    def bind(self, kind, connection, channel):
        one = self.context.socket(kind)
        one.linger = 1000
        where = address(connection, channel)
        try:
            one.bind(where)
        except zmq.ZMQError as error:
            sys.exit(f"the kernel cannot listen at {where}, which Jupyter chose for it ({error}): another program was quicker; start it again")
        return one

    def connect(self, kind, connection, channel):
        one = self.context.socket(kind)
        one.linger = 0
        one.reconnect_ivl = 20  # ms: evcxr does not listen yet
        one.sndhwm = one.rcvhwm = 0
        one.connect(evcxr_address(connection, channel))
        self.poller.register(one, zmq.POLLIN)
        self.inner.append(one)
        return one

    def message(self, kind, parent, content, session):
        return message(self.key, kind, parent, content, session)

    def inward(self, frames):
        """A message as evcxr takes it."""
        return frames if self.key == self.inner_key else [*frames[: frames.index(DELIMITER)], *signed(self.inner_key, parts_of(frames))]

    def outward(self, frames):
        """A message as Jupyter takes it, cells counted from 1."""
        header, parent, metadata, content = parts = parts_of(frames)
        if b'"execution_count"' in content and b'"execute_' in header:
            counted = json.loads(content)
            counted["execution_count"] = max(1, counted["execution_count"] - self.counted)
            parts = [header, parent, metadata, json.dumps(counted).encode()]
        elif self.key == self.inner_key:
            return frames
        return [*frames[: frames.index(DELIMITER)], *signed(self.key, parts)]

    def turn(self):
        """Passes on what has come, or waits a moment for something to come."""
        self.ask()
        if self.stop_was_pressed:
            self.stop_was_pressed = False
            self.send_away_waiting()
            if self.running:
                self.running.input.stop(self.process)
        cell = self.running
        held = cell.reply_until - time.monotonic() if cell and cell.reply else 0.0
        wait = min(PATIENCE, held) if held > 0 else PATIENCE
        ready = [one for one, _ in self.poller.poll(1000 * wait)]
        for one in ready:
            self.receive(one, one.recv_multipart())
        cell = self.running
        if cell and cell.stderr.are_due():
            self.pass_remarks(cell)
        if cell and cell.is_over():
            self.end_cell(cell)
        elif cell and not cell.reply:
            cell.input.turn(self.process, lambda to: self.ask_reader(cell, to))
        if self.output not in ready:  # else it may have said so, and be heard when its turn comes
            self.trouble = self.trouble or self.silence()

    def receive(self, one, frames):
        if one is self.heart:
            one.send_multipart(frames)
        elif one is self.pulse:
            self.heard = self.clock
        elif not is_signed(self.key if one in self.requests else self.inner_key, frames):
            if one not in self.requests and not self.is_open:
                self.trouble = "what listens at its sockets is not evcxr"
        elif one is self.output:
            self.pass_output(frames)
        elif one is self.ways["shell"]:
            self.pass_request(frames)
        elif one in self.requests:
            content = json.loads(parts_of(frames)[3])
            if not (one is self.ways["stdin"] and self.running and self.running.input.take(content)):
                self.ways[one].send_multipart(self.inward(frames))
        elif one is not self.probe and json.loads(parts_of(frames)[1]).get("session") != self.session:
            self.pass_answer(one, frames)

    def ask(self):
        """Asks evcxr for signs of life."""
        now = time.monotonic()
        # What passed while we did not run ourselves, as on a machine that was asleep, is not its silence.
        self.clock, self.turned = self.clock + min(now - self.turned, 2 * PATIENCE), now
        if now - self.asked > (PULSE if self.is_open else PATIENCE):
            self.asked = now
            self.pulse.send_multipart([b"", b"beat"])
            if not self.is_open:
                # A subscriber misses what was published before the other side knew of it. So no request passes before an answer to a
                # request of ours has come out at the publisher's end.
                self.probe.send_multipart(message(self.inner_key, "kernel_info_request", {}, {}, self.session))

    def silence(self):
        """Which sign of life of evcxr's has failed to come, or None."""
        if self.is_open and self.untaken and self.is_free and self.clock - self.owed > LONGEST_PAUSE:
            return f"it has taken no request for {LONGEST_PAUSE:.0f} s"
        if (not self.is_open or self.untaken or not self.is_free) and self.clock - self.heard > LONGEST_SILENCE:
            return f"its heart has not beaten for {LONGEST_SILENCE:.0f} s"
        if not self.is_open and self.clock > LONGEST_START:
            return f"it has not started within {LONGEST_START:.0f} s"
        return None

    def give_up(self):
        """Answers all cells that there are that they cannot run, and says why."""
        why = f"evcxr, which compiles and runs the cells, does not answer ({self.trouble}): this kernel ends, and its variables are lost."
        if self.running:
            self.pass_remarks(self.running)
            self.waiting.insert(0, self.running.frames)
            self.running = None
        shell = self.ways["shell"]
        while shell.poll(0):
            frames = shell.recv_multipart()
            if is_signed(self.key, frames) and json.loads(parts_of(frames)[0])["msg_type"] == "execute_request":
                self.waiting.append(frames)
        while self.waiting:
            self.refuse(self.waiting.pop(0), why)
        return why

    def idle(self):
        """Seconds since a cell ran."""
        return time.monotonic() - self.last_cell if self.is_open and not self.running else 0.0

    def open(self):
        self.is_open, self.last_cell = True, time.monotonic()
        for one in self.requests:
            self.poller.register(one, zmq.POLLIN)

    def pass_request(self, frames):
        """Cells go to evcxr one by one, all else at once."""
        header = json.loads(parts_of(frames)[0])
        is_cell = header["msg_type"] == "execute_request"
        if is_cell and self.running:
            self.waiting.append(frames)
            return
        why_not = self.hindrance() if is_cell else None
        if why_not:
            self.refuse(frames, why_not)
            return
        asks = header["msg_type"] in ("complete_request", "inspect_request") and not self.running
        if asks or is_cell and need_types(json.loads(parts_of(frames)[3])["code"]):
            self.show_types()
        if is_cell:
            self.last_cell = time.monotonic()
            self.running = Cell(frames)
            self.tell_cargo()
            self.process.note_own_buffer()
            if self.is_outdated and self.is_outdated():
                self.is_outdated = None
                self.publish("stream", header, {"name": "stdout", "text": OUTDATED})
        self.send(self.inward(frames))

    def send(self, frames):
        """Sends evcxr a request, which it says it is busy with when it takes it."""
        if not self.untaken:
            self.owed = self.clock
        self.untaken += 1
        self.ways[self.ways["shell"]].send_multipart(frames)

    def hear_state(self, parent, state):
        """Takes what evcxr says of itself; of our first questions it may have said something before we could hear it."""
        if parent.get("session") == self.session and parent["msg_type"] == "kernel_info_request":
            return
        self.is_free = state == "idle"
        if self.is_free:
            self.owed = self.clock
        else:
            self.untaken = max(0, self.untaken - 1)

    def compiled(self):
        """What evcxr has made of the cell."""
        try:
            with open(os.path.join(self.folder, "src", "lib.rs"), encoding="utf-8") as file:
                return file.read()
        except OSError:
            return ""

    def tell_cargo(self):
        """Has cargo.sh add to the cells what tells us of their ends."""
        try:
            open(os.path.join(self.folder, "relayed"), "w").close()
        except OSError:
            pass  # no room: the cell then runs as under plain evcxr

    def show_types(self):
        """Has rust-analyzer load all types, if it has not, before what evcxr is sent next. evcxr counts this as a cell."""
        if self.reveal:
            self.reveal()
            self.reveal = None
            self.counted += 1
            self.send(message(self.inner_key, "execute_request", {}, command(RELOAD), self.session))

    def pass_answer(self, socket, frames):
        """What evcxr answers goes to Jupyter at once, but that a cell has ended."""
        header, parent = map(json.loads, parts_of(frames)[:2])
        cell = self.running
        if header["msg_type"] != "execute_reply" or not (cell and cell.asked(parent)):
            self.ways[socket].send_multipart(self.outward(frames))
            return
        is_written = self.process.write_behind(f"{END}{parent['msg_id']}\n")
        cell.reply, cell.reply_until = frames, time.monotonic() + (LONGEST_WAIT if is_written else BLIND_WAIT)

    def end_cell(self, cell):
        """Passes on evcxr's answer to the cell that runs, and sends the next one."""
        content = json.loads(parts_of(cell.reply)[3])
        failure = cell.stderr.error(cell.code, self.compiled)
        if cell.input.refused:
            failure = {"ename": "Error", "evalue": cell.input.refused, "traceback": [cell.input.refused]}
        if failure:
            self.publish("error", cell.header, failure)
            content["status"] = "error"
        if content["status"] == "error":
            cell.reply = with_content(cell.reply, {**content, **(failure or cell.error or {})})
        self.pass_remarks(cell)
        self.ways["shell"].send_multipart(self.outward(cell.reply))
        if cell.idle:
            self.publisher.send_multipart(self.outward(cell.idle))
        else:
            self.publish("status", cell.header, {"execution_state": "idle"})
        self.running = None
        self.last_cell = time.monotonic()
        if content["status"] == "error":
            self.send_away_waiting()
        self.give_back()
        if self.waiting:
            self.pass_request(self.waiting.pop(0))

    def send_away_waiting(self):
        """Cells that wait now must not run, except those that run whatever happens. They are answered when the one that runs has
        ended, as a kernel does that works through them one by one."""
        waiting, self.waiting = self.waiting, []
        for frames in waiting:
            stays = not json.loads(parts_of(frames)[3]).get("stop_on_error", True)
            (self.waiting if stays else self.sent_away).append(frames)
        if not self.running:
            self.give_back()

    def give_back(self):
        """Answers the cells that were sent away as not run."""
        sent_away, self.sent_away = self.sent_away, []
        for frames in sent_away:
            self.answer(frames, {"status": "aborted"})

    def refuse(self, frames, why):
        """Answers a cell, and those that wait behind it, that it cannot run."""
        error = {"ename": "Error", "evalue": why, "traceback": [why]}
        self.answer(frames, {"status": "error", "execution_count": 0, **error}, error)
        self.send_away_waiting()

    def answer(self, frames, reply, error=None):
        """Answers a request for evcxr."""
        header = json.loads(parts_of(frames)[0])

        self.publish("status", header, {"execution_state": "busy"})
        if error:
            self.publish("error", header, error)
        told = self.message("execute_reply", header, reply, header.get("session", ""))
        self.ways["shell"].send_multipart([*frames[: frames.index(DELIMITER)], *told])
        self.publish("status", header, {"execution_state": "idle"})

    def ask_reader(self, cell, identities):
        """Has the notebook ask for what the cell that runs reads."""
        session = cell.header.get("session", "")
        asked = self.message("input_request", cell.header, {"prompt": "", "password": False}, session)
        self.ways["stdin"].send_multipart([*identities, *asked])

    def publish(self, kind, header, content):
        """Tells all the result of the request with this header."""
        self.publisher.send_multipart([kind.encode(), *self.message(kind, header, content, header.get("session", ""))])

    def pass_output(self, frames):
        header, parent, _, content = map(json.loads, parts_of(frames))
        is_text = header["msg_type"] == "stream"
        cell = self.running if self.running and self.running.asked(parent) else None
        if header["msg_type"] == "status":
            self.hear_state(parent, content["execution_state"])
        if parent.get("session") == self.session:
            if not self.is_open:
                self.open()
        elif is_text and content["name"] == "stderr":
            self.hear_remark(cell, parent, content["text"])
        elif cell and content.get("execution_state") == "idle":
            cell.idle = frames
        else:
            if cell and is_text and FAILED in content["text"]:
                cell.stderr.failed = True
            if cell and cell.stderr.may_pass():
                self.pass_remarks(cell)
            if cell and header["msg_type"] == "error":
                cell.error = content
            for made in self.drawn(header, parent, content) if is_text and MARK in content["text"] else [self.outward(frames)]:
                self.publisher.send_multipart(made)

    def hear_remark(self, cell, parent, text):
        """Takes what evcxr passes on of standard error."""
        text, end, of = text.partition(END)
        if cell:
            cell.stderr.add(text)
            if end and cell.reply and cell.asked({"msg_id": of.strip()}):
                cell.reply_until = time.monotonic()
        elif text:
            self.publish("stream", parent, {"name": "stderr", "text": text})

    def pass_remarks(self, cell):
        """Passes on what a cell has written to standard error, as it is."""
        text = cell.stderr.take()
        if text:
            self.publish("stream", cell.header, {"name": "stderr", "text": text})

    def drawn(self, header, parent, content):
        """The messages that a message of text becomes: text and pictures, in their order."""
        session, text = header.get("session", ""), ""
        for line in re.findall(r"[^\n]*\n|[^\n]+", content["text"]):  # not splitlines, to which the mark itself ends a line
            before, mark, picture = line.partition(MARK)
            text += before
            if mark:
                if text:
                    yield [b"stream", *self.message("stream", parent, {"name": "stdout", "text": text}, session)]
                text = ""
                if mark + picture not in (FAILED, MARK + "\n"):
                    kind, shown = picture_of(picture)
                    yield [kind.encode(), *self.message(kind, parent, shown, session)]
        if text:
            yield [b"stream", *self.message("stream", parent, {"name": "stdout", "text": text}, session)]

    def end(self):
        """Passes on what evcxr said last."""
        while self.poller.poll(50):
            self.turn()
        if self.running and self.running.reply:
            self.end_cell(self.running)
        self.context.destroy()


def picture_of(line):
    """The display that a marked line describes; a line that describes none is shown as it is."""
    try:
        picture = json.loads(line)
        kind = "update_display_data" if picture["update"] else "display_data"
        return kind, {"data": picture["data"], "metadata": {}, "transient": {"display_id": picture["id"]}}
    except (ValueError, KeyError, TypeError):
        return "stream", {"name": "stdout", "text": line}
