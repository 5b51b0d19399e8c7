"""Runs cells whose types are written, and others, and asks for completions; says what came of it, as JSON on stdout."""


def completions(client, code):
    request = client.complete(code, len(code))
    while True:
        reply = client.get_shell_msg(timeout=600)
        if reply["parent_header"].get("msg_id") == request:
            return reply["content"]["matches"]


def main():
    std = 'println!("{}", std::fs::read_link(std::env::var("RUST_SRC_PATH")?)?.ends_with("unseen"));'
    cells = [
        sys.argv[1],
        "let hook: HookPoint = HookPoint::resid_pre(3);\nhook",
        std,
        "let kept = hook;\nlet layer: usize = 3;",
        std,
        'println!("{kept} {layer}");',
    ]
    seen = {}
    kernel, client = start()
    seen["cells"] = [run(client, cell) for cell in cells]
    kernel.shutdown_kernel()
    kernel, client = start()
    run(client, sys.argv[1])
    seen["function"] = completions(client, "HookPoint::resid_p")
    seen["after"] = run(client, std)
    run(client, "let hook = HookPoint::resid_pre(3);")
    seen["field"] = completions(client, "hook.lay")
    kernel.shutdown_kernel()
    print(json.dumps(seen))


main()
