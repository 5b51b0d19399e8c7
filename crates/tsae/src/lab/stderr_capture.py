"""What a cell writes to standard error, and whether that is why it failed.

evcxr tells no one that a cell panicked or ended with a failing `?`. In both cases it has the cell print a line that it keeps to itself; cell.sed
adds another, on standard output, by which the relay knows in any case, before evcxr answers, that the cell has `failed`. So remarks wait a moment before
they are passed on: if the cell has failed, they are its error. A panic's backtrace takes longer to write than the moment, so what tells of a panic waits
until the cell ends.
"""

import re
import time

WAIT = 0.3  # seconds
# What a backtrace has below the cell: evcxr, and frames without a name.
BELOW = re.compile(r"(.*::run_user_code_\d+(?:::\{\{closure\}\})+\n).*?(?=^note: |\Z)", re.S | re.M)
NAMELESS = re.compile(r"^ +\d+: (?:<unknown>|evcxr\w*::.*)\n", re.M)
PLACE = re.compile(r"panicked at src/lib\.rs:(\d+):(\d+):$", re.M)
PANIC = re.compile(r"panicked at [^\n]*:\n(.*?)(?=\nstack backtrace:\n|\nnote: |\Z)", re.S)


class StderrCapture:
    """What one cell has written to standard error, and has not been passed on yet."""

    def __init__(self):
        self.text = self.passed = ""
        self.since = None
        self.failed = False

    def add(self, text):
        if text:
            self.text += text
            self.since = self.since or time.monotonic()

    def may_pass(self):
        """Whether they can be passed on before the cell ends."""
        return bool(self.text) and not self.failed and "panicked at" not in self.text

    def are_due(self):
        return self.may_pass() and time.monotonic() - self.since > WAIT

    def take(self):
        """The text to pass on as it is."""
        self.passed, self.text, self.since = self.text, "", None
        return self.passed

    def error(self, cell, compiled):
        """What failed, as Jupyter tells it, or None. It is in the remarks that came last, be they passed on or not.

        Takes the cell's source, and a function for that of which it became a part.
        """
        if not self.failed:
            return None
        text = NAMELESS.sub("", BELOW.sub(r"\1", self.text or self.passed)).strip("\n")
        text = PLACE.sub(lambda found: placed(found, cell.split("\n"), compiled().split("\n")), text)
        self.text = ""
        panic = PANIC.search(text)
        return {"ename": "panic" if panic else "Error", "evalue": (panic.group(1) if panic else text).strip(), "traceback": text.split("\n")}


def placed(found, cell, compiled):
    """Where a panic was, by the cell's own lines. evcxr puts each statement on a line of its own, and what a cell ends with into a call."""
    number, column = int(found[1]), int(found[2])
    if compiled[number - 1 : number] and compiled[number - 1][column - 1 :] == "(":  # the call's, which begins before its line
        number, column = number + 1, None
    around = compiled[number - 1] if number <= len(compiled) else ""
    statement = around.strip()
    column = column or around.find(statement) + 1
    # How far each of the cell's lines that may be the one lies from the compiled one.
    shifts = {}
    for i, line in enumerate(cell, 1):
        if statement and statement in line:
            shifts[i] = line.index(statement) - around.index(statement)
        elif line.strip() and line in around:
            shifts[i] = -around.index(line)
    alike = [n for n, line in enumerate(compiled, 1) if line.strip() == statement]
    if len(alike) == len(shifts):  # lines that are alike keep their order
        shifts = dict([list(shifts.items())[alike.index(number)]])
    if len(shifts) != 1:
        return found[0]
    (line, shift), *_ = shifts.items()
    return f"panicked at line {line}, column {column + shift} of the cell:"
