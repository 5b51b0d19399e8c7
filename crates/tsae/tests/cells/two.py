"""Has two kernels compile a different cell at the same moment, over and over, and prints what each answered."""


def main():
    # As most programs start kernels: at ports.
    kernels = [start("tcp"), start("tcp")]
    try:
        answers = []
        for i in range(int(sys.argv[1])):
            # Twice as many constants in one as in the other: whoever writes last, the other compiles too little or too much.
            cells = [
                "".join(f'fn round{i}_{n}() -> String {{ "kernel {k}, round {i}".to_owned() }}\n' for n in range(20 * (k + 1)))
                + f'let text{i}: String = round{i}_0();\nprintln!("{{text{i}}}");'
                for k in range(2)
            ]
            requests = [client.execute(cell) for (_, client), cell in zip(kernels, cells)]
            answers.append([answer(client, request)[0] for (_, client), request in zip(kernels, requests)])
    finally:
        for kernel, _ in kernels:
            kernel.shutdown_kernel(now=True)
    print(json.dumps(answers))


main()
