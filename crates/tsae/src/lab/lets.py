"""Whether evcxr needs the help of rust-analyzer to keep what a cell defines.

evcxr keeps a variable under its type. It takes the type from the `let`, if it is written there, and otherwise from rust-analyzer, which has
to read the standard library and the crates below ours for that, once: some seconds.
"""

import re

TOKEN = re.compile(
    r"""(?P<skipped>\s+|//[^\n]*|^:[^\n]*)
    |(?P<comment>/\*)
    |(?P<raw>\b[bc]?r(?P<hashes>\#*)")
    |(?P<text>[bc]?"(?:[^"\\]|\\.)*"|b?'(?:[^'\\\n]|\\[^\n][^'\n]*)')
    |(?P<word>(?:'|r\#)?\w+)
    |(?P<sign>::|->|.)""",
    re.X | re.S | re.M,
)


def tokens(source):
    """The source's words and signs, in their order; a text is one token."""
    at = 0
    while at < len(source):
        found = TOKEN.match(source, at)
        at = found.end()
        if found["comment"]:
            depth = 1
            while depth and at < len(source):
                depth += {"/*": 1, "*/": -1}.get(source[at : at + 2], 0)
                at += 2 if source[at : at + 2] in ("/*", "*/") else 1
        elif found["raw"]:
            end = '"' + found["hashes"]
            at = source.find(end, at) + len(end) if end in source[at:] else len(source)
            yield '""'
        elif not found["skipped"]:
            yield found[0]


def need_types(source):
    """Whether a `let` of the cell itself, not one in a block, leaves its type open in any part."""
    depth, here = 0, list(tokens(source))
    for i, token in enumerate(here):
        depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(token, 0)
        is_statement = token == "let" and depth == 0 and (i == 0 or here[i - 1] not in ("if", "while", "&", "|"))
        if is_statement:
            rest = here[i + 1 :]
            rest = rest[1:] if rest[:1] == ["mut"] else rest
            if len(rest) < 2 or rest[1] != ":" or "_" in type_of(rest[2:]):
                return True
    return False


def type_of(rest):
    """The tokens up to the `=` or `;` that ends a type."""
    depth = 0
    for n, token in enumerate(rest):
        depth += {"(": 1, "[": 1, "{": 1, "<": 1, ")": -1, "]": -1, "}": -1, ">": -1}.get(token, 0)
        if depth <= 0 and token in ("=", ";"):
            return rest[:n]
    return rest
