"""Starts a kernel, waits for its spare, starts another that takes it, and says what the cells there answered, as JSON on stdout."""

import glob
import os
import time


def wait_for(what, found, seconds=300):
    until = time.monotonic() + seconds
    while not found():
        if time.monotonic() > until:
            sys.exit(f"waited {seconds} s in vain for {what}")
        time.sleep(0.2)


def main():
    spares, first_cell = sys.argv[1:]
    ready = lambda: glob.glob(os.path.join(spares, "*", "ready-*"))
    before = set(ready())
    seen = {}
    one, client = start()
    run(client, first_cell)
    wait_for("a spare", lambda: set(ready()) - before)
    mine = (set(ready()) - before).pop()
    other, taken = start()
    seen["was_taken"] = not os.path.exists(mine)
    seen["first"] = run(taken, first_cell)
    seen["folder"] = run(taken, 'println!("{}", std::env::current_dir()?.display());')[0]
    run(taken, "let n: u64 = 41;\ntokenized_sae::display::interrupt::watch();")
    other.interrupt_kernel()
    time.sleep(1)
    seen["interrupt"] = run(taken, 'println!("{} {}", n + 1, tokenized_sae::display::interrupt::requested());')[0]
    seen["leftover"] = run(taken, "tsae_spare")[0]
    seen["first_still_there"] = run(client, 'println!("here");')[0]
    for kernel, one_client in ((one, client), (other, taken)):
        one_client.stop_channels()
        kernel.shutdown_kernel()
    keeper = int(mine.rsplit("-", 1)[1])
    alive = lambda: os.path.exists(f"/proc/{keeper}") and "Z" not in open(f"/proc/{keeper}/stat").read().rsplit(")", 1)[1].split()[0]
    wait_for("the keeper's end", lambda: not alive(), 60)
    print(json.dumps(seen))


main()
