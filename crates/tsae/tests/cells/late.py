"""Has the relay stand before an evcxr of our own, which says that it is idle when all else has been said, and prints in which order a notebook is told of
a cell that fails and of one that waits behind it."""

import tempfile

sys.path.insert(0, sys.argv[1])  # the kernel's own files

import relay
import wire
import zmq

KEY = b"key"


class Evcxr:
    """What listens at evcxr's sockets."""

    def __init__(self, connection):
        kinds = {"shell": zmq.ROUTER, "control": zmq.ROUTER, "stdin": zmq.ROUTER, "hb": zmq.REP, "iopub": zmq.PUB}
        for channel, kind in kinds.items():
            socket = zmq.Context.instance().socket(kind)
            socket.bind(wire.evcxr_address(connection, channel))
            setattr(self, channel, socket)

    def take(self):
        """A request that has come, or None; heartbeats are answered, and questions of the relay's."""
        if self.hb.poll(0):
            self.hb.send(self.hb.recv())
        if not self.shell.poll(0):
            return None
        frames = self.shell.recv_multipart()
        header = json.loads(wire.parts_of(frames)[0])
        self.say("status", header, {"execution_state": "busy"})
        if header["msg_type"] == "execute_request":
            return frames[0], header
        self.answer(frames[0], header, "kernel_info_reply", {})
        self.say("status", header, {"execution_state": "idle"})
        return None

    def say(self, kind, parent, content):
        self.iopub.send_multipart([kind.encode(), *wire.message(KEY, kind, parent, content, "evcxr")])

    def answer(self, who, parent, kind, content):
        self.shell.send_multipart([who, *wire.message(KEY, kind, parent, content, "evcxr")])


class Process:
    """The one that runs the cells, which reads nothing and never has its last line written behind it."""

    def __init__(self):
        self.behind = []

    def write_behind(self, line):
        self.behind.append(line)
        return True

    def note_own_buffer(self):
        pass

    def reads_input(self):
        return False


def main():
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        files = []
        for side in ("outer", "inner"):
            ports = {f"{channel}_port": n for n, channel in enumerate(wire.CHANNELS, 1)}
            files.append(os.path.join(folder, side + ".json"))
            with open(files[-1], "w", encoding="utf-8") as file:
                json.dump({"transport": "ipc", "ip": os.path.join(folder, side), "key": KEY.decode(), **ports}, file)
        outer, inner = map(wire.read, files)
        evcxr, process = Evcxr(inner), Process()
        between = relay.Relay(files[0])
        between.attach(files[1], lambda: None, None, lambda: False, process)
        shell, told = (zmq.Context.instance().socket(kind) for kind in (zmq.DEALER, zmq.SUB))
        shell.connect(wire.address(outer, "shell"))
        told.subscribe(b"")
        told.connect(wire.address(outer, "iopub"))

        def until(what):
            while not what():
                between.turn()

        until(lambda: evcxr.take() or between.is_open)
        for cell in ("fails", "waits"):
            shell.send_multipart(wire.message(KEY, "execute_request", {}, wire.command(cell), cell))
        running = []
        until(lambda: running.extend(filter(None, [evcxr.take()])) or running and between.waiting)
        who, header = running[0]
        evcxr.say("error", header, {"ename": "Error", "evalue": "it failed", "traceback": []})
        evcxr.answer(who, header, "execute_reply", {"status": "error", "execution_count": 2})
        until(lambda: process.behind)
        evcxr.say("stream", header, {"name": "stderr", "text": process.behind[0]})
        for _ in range(8):  # all that it makes of this is said by now
            between.turn()
        evcxr.say("status", header, {"execution_state": "idle"})
        until(lambda: not between.running)
        order = []
        while told.poll(1000):
            _, parent, _, content = map(json.loads, wire.parts_of(told.recv_multipart()))
            if parent.get("session") in ("fails", "waits"):
                order.append([parent["session"], content.get("execution_state", "error")])
        print(json.dumps(order))
        os._exit(0)


main()
