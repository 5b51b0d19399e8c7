"""Starts kernels, several at once, round after round, has each run a cell, and prints what went wrong with which."""

import threading
import time


def try_one(transport, place, failures):
    """Starts a kernel, has it run a cell, and ends it."""
    kernel = Kernel(transport)
    try:
        told = run(started(kernel, seconds=300), 'println!("{}", 6 * 7);')[0]
        if told != "42":
            failures.append(f"{place}: it says {told!r}")
    except Exception as error:
        failures.append(f"{place}: {type(error).__name__}: {error}")
    finally:
        kernel.shutdown_kernel(now=True)


def main():
    rounds, at_once, transport = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    failures, slowest = [], 0.0
    for i in range(rounds):
        begun = time.monotonic()
        starts = [threading.Thread(target=try_one, args=(transport, f"round {i}, kernel {k}", failures)) for k in range(at_once)]
        for one in starts:
            one.start()
        for one in starts:
            one.join()
        slowest = max(slowest, time.monotonic() - begun)
        print(f"round {i}: {time.monotonic() - begun:.1f} s, {len(failures)} failures so far", file=sys.stderr, flush=True)
    print(json.dumps({"starts": rounds * at_once, "failures": failures, "slowest": slowest}))


main()
