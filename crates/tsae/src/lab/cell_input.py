"""Standard input of a cell: what Jupyter's reader is asked for, or an error at once where there is none."""

from wire import DELIMITER

NOBODY = (
    "the cell reads standard input, and nobody is there to be asked: run headless, a notebook has none. "
    "Write the value into the cell, or make it a parameter."
)
STOPPED = "the cell was stopped while it waited for standard input"
# No text in UTF-8: what reads text fails by it.
NO_TEXT = b"\xff\n"
REFUSALS = 3  # after which a cell that goes on reading is ended


class CellInput:
    """What becomes of the standard input of one cell."""

    def __init__(self, frames, content):
        self.identities = frames[: frames.index(DELIMITER)]
        self.may_ask = content.get("allow_stdin", False)
        self.is_asked = False
        self.typed = b""  # what the cell's pipe has had no room for yet
        self.refused, self.times = None, 0

    def turn(self, process, ask):
        """Looks at what the cell does, and has the reader asked by `ask` if need be."""
        if self.typed:
            self.typed = self.typed[process.type(self.typed) :]
        elif self.is_asked or not process.reads_input():
            return
        elif self.may_ask and not self.refused:
            self.is_asked = True
            ask(self.identities)
        else:
            self.refuse(process, self.refused or NOBODY)

    def take(self, reply):
        """Takes what the reader has typed. Whether that was asked for."""
        was_asked, self.is_asked = self.is_asked, False
        if was_asked:
            self.typed = (str(reply.get("value", "")) + "\n").encode()
        return was_asked

    def stop(self, process):
        """The stop button: a cell that waits for its reader waits no more."""
        if self.is_asked:
            self.is_asked = False
            self.refuse(process, STOPPED)

    def refuse(self, process, why):
        self.refused, self.times = why, self.times + 1
        if self.times <= REFUSALS:
            process.type(NO_TEXT)
        elif self.times == REFUSALS + 1:
            process.kill()
