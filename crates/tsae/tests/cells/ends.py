"""Runs cells that write, and cells that fail, alone and with others behind them; prints what was there of each when it had ended."""

FAILURES = {
    "panic": "let none: Vec<u32> = vec![];\nlet index: usize = 3;\nprintln!(\"{}\", none[index]);",
    "question mark": 'let number: u32 = "x".parse()?;',
    "compiler": "let number: u32 = nowhere();",
    "end": "std::process::exit(3);",
}

# Lines that a cell leaves open, as it ends in one way or another.
UNENDED = [
    'eprint!("remark");',
    'let kept: u32 = 1;\nprint!("text");',
    'use std::io::Write;\nprint!("flushed"); std::io::stdout().flush()?;',
    'print!("shown "); kept',
    'print!("failed "); let n: u32 = "x".parse()?;',
    'print!("panicked "); let lost: u32 = [1, 2][kept as usize + 1];',
    'print!("{kept}");',
]


# Cells that panic in what they end with, which evcxr puts into a call; in one of two lines that are alike; behind a letter of two bytes.
PLACES = [
    "[1, 2][kept as usize + 2]",
    "    [1, 2][kept as usize + 2]",
    "let n: usize = 7;\nvec![1, 2][n]",
    "let a: usize = [1, 2][kept as usize - 1];\nlet b: usize = [1, 2][kept as usize + 1];\nlet b: usize = [1, 2][kept as usize - 1];",
    "{ let b = |n: usize| [1, 2][n];\nb(0);\nb(9) }",
    "fn one(n: usize) -> u8 {\n    [1, 2][n]\n}\none(5)",
    'let ä: &str = "é"; let x: u32 = ä.parse().unwrap();',
]


def streams(client, request):
    """What a cell wrote, piece by piece."""
    return [[content["name"], content["text"]] for kind, content in messages(client, request) if kind == "stream"]


def written(client, code):
    """What a cell wrote to each stream."""
    pieces = streams(client, client.execute(code))
    return {name: "".join(text for stream, text in pieces if stream == name) for name in ("stdout", "stderr")}


def reply(client, request):
    while True:
        message = client.get_shell_msg(timeout=600)
        if message["parent_header"].get("msg_id") == request:
            return message["content"]


def run_all(client, failure):
    """Three cells at once, as "Run all" sends them, of which the second fails; and one more afterwards."""
    requests = [client.execute(code) for code in ('println!("first");', failure, 'println!("third");')]
    told = [list(messages(client, request)) for request in requests]
    replies = [reply(client, request) for request in requests]
    replies.append(reply(client, client.execute('println!("after");')))
    error = next(content for kind, content in told[1] if kind == "error")
    return {
        "states": [one["status"] for one in replies],
        "error": [error["ename"], error["evalue"]],
        "traceback": "\n".join(error["traceback"]),
        "reply": [replies[1]["ename"], replies[1]["evalue"]],
        "stderr": "".join(content["text"] for kind, content in told[1] if kind == "stream" and content["name"] == "stderr"),
    }


def main():
    kernel, client = start()
    try:
        seen = {
            "all": [
                written(client, f'println!("a {i}"); eprintln!("c {i}"); println!("b {i}"); eprintln!("d {i}");') for i in range(20)
            ],
            "unended": [written(client, code) for code in UNENDED],
            "early": streams(
                client, client.execute('eprintln!("early"); std::thread::sleep(std::time::Duration::from_secs(2)); println!("late");')
            ),
            "failed": {kind: run_all(client, code) for kind, code in FAILURES.items()},
        }
        written(client, "let kept: u32 = 1;")
        seen["places"] = [run_all(client, code)["traceback"].split("\n")[0] for code in PLACES]
        requests = [client.execute(FAILURES["panic"]), client.execute('println!("third");', stop_on_error=False)]
        seen["whatever happens"] = [reply(client, request)["status"] for request in requests]
    finally:
        kernel.shutdown_kernel(now=True)
    print(json.dumps(seen))


main()
