"""Runs cells that read standard input, before a reader who answers, one who presses stop, and none; prints how each ended and what it said."""

LINE = "let mut line: String = String::new();\nstd::io::stdin().read_line(&mut line)?;\nline.trim_end().to_owned()"
CELLS = {
    "line": LINE,
    "again": LINE,
    "lines": "let all: Vec<String> = std::io::stdin().lines().take(2).collect::<Result<_, _>>()?;\nall.join(\" \")",
    "thread": "std::thread::spawn(|| std::io::stdin().lines().next().unwrap().unwrap()).join().unwrap()",
}
# In these, nobody is there to be asked.
ALONE = {
    "question mark": LINE,
    "panic": "std::io::stdin().lines().next().unwrap().unwrap()",
    "unheeded": "let mut line: String = String::new();\nlet _ = std::io::stdin().read_line(&mut line);",
    "to the end": "let mut all: String = String::new();\nstd::io::Read::read_to_string(&mut std::io::stdin(), &mut all)?;",
}


def outcome(client, request):
    """How a cell ended, and what it said."""
    told = [c.get("evalue") or c.get("data", {}).get("text/plain") or c.get("text") for _, c in messages(client, request)]
    while True:
        reply = client.get_shell_msg(timeout=600)
        if reply["parent_header"].get("msg_id") == request:
            return [reply["content"]["status"], [text for text in told if text]]


def answered(client, code, texts):
    request = client.execute(code, allow_stdin=True)
    for text in texts:
        asked = client.get_stdin_msg(timeout=60)
        assert asked["msg_type"] == "input_request" and asked["parent_header"]["msg_id"] == request, asked
        client.input(text)
    return outcome(client, request)


def main():
    kernel, client = start()
    try:
        seen = {
            "line": answered(client, CELLS["line"], ["Ada"]),
            "again": answered(client, CELLS["again"], ["schön"]),
            "lines": answered(client, CELLS["lines"], ["one", "two"]),
            "thread": answered(client, CELLS["thread"], ["aside"]),
            "long": answered(client, "let mut line: String = String::new();\nstd::io::stdin().read_line(&mut line)?;\nline.len()", ["x" * 200_000]),
            "kept": outcome(client, client.execute("let kept: u32 = 7;")),
        }
        request = client.execute(LINE, allow_stdin=True)
        client.get_stdin_msg(timeout=60)
        kernel.interrupt_kernel()
        seen["stopped"] = outcome(client, request)
        seen["alone"] = {kind: outcome(client, client.execute(code, allow_stdin=False)) for kind, code in list(ALONE.items())[:3]}
        seen["still kept"] = outcome(client, client.execute("kept"))
        seen["alone"]["to the end"] = outcome(client, client.execute(ALONE["to the end"], allow_stdin=False))
        seen["after"] = outcome(client, client.execute("1 + 1"))
    finally:
        kernel.shutdown_kernel(now=True)
    print(json.dumps(seen))


main()
