"""Compiles src/device/kernels/*.cu to PTX by NVRTC, or checks what is there. Called by ptx.sh."""

import ctypes
import hashlib
import re
import subprocess
import sys
import tempfile
from pathlib import Path

KERNELS = Path(__file__).resolve().parent.parent / "src/device/kernels"
HEADERS = sorted(KERNELS.glob("*.cuh"))
# Ampere and what came after. No multiplication is fused with an addition where the source does not say so by `fmaf`, as the
# CPU fuses the products of a model.
OPTIONS = ["--gpu-architecture=compute_80", "--fmad=false", "--std=c++17", "--device-as-default-execution-space"]
# What would round otherwise than the CPU.
INEXACT = ["fma.", ".approx", ".ftz"]
CARDS = ["sm_80", "sm_90", "sm_120"]


def package_file(pattern):
    return next(iter(sorted(Path(sys.prefix).glob(f"lib/python3*/site-packages/nvidia/{pattern}"))))


def compile_ptx(nvrtc, source):
    headers = [header.read_bytes() for header in HEADERS]
    names = [header.name.encode() for header in HEADERS]
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    texts = lambda *items: (ctypes.c_char_p * len(items))(*items)
    nvrtc.nvrtcCreateProgram(
        ctypes.byref(program), source.read_bytes(), source.name.encode(), len(names), texts(*headers), texts(*names)
    )
    failed = nvrtc.nvrtcCompileProgram(program, len(OPTIONS), texts(*(option.encode() for option in OPTIONS)))
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetProgramLog(program, log)
    if failed or log.value.strip():
        sys.exit(log.value.decode())
    nvrtc.nvrtcGetPTXSize(program, ctypes.byref(size))
    ptx = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetPTX(program, ptx)
    # From what it was made: the tests see without a compiler whether it is out of date.
    made_from = hashlib.sha256(b"".join(headers) + source.read_bytes()).hexdigest()
    return f"// SHA-256 of the headers and {source.name}: {made_from}\n{ptx.value.decode()}"


def check(name, fuses, ptx, ptxas):
    for word in INEXACT:
        if word in (ptx.replace("fma.rn.f32", "") if fuses else ptx):
            sys.exit(f"{name}: {word} would round otherwise than the CPU")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_text(ptx)
        for card in CARDS:
            said = subprocess.run(
                [ptxas, "-v", f"-arch={card}", path, "-o", "/dev/null"], capture_output=True, text=True, check=True
            ).stderr
            used = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", said)
            if not used or any(number != "0" for kernel in used for number in kernel):
                sys.exit(f"{name} on {card}: registers do not suffice\n{said}")


def main():
    nvrtc = ctypes.CDLL(str(package_file("cuda_nvrtc/lib/libnvrtc.so.12")))
    ptxas = package_file("cu13/bin/ptxas")
    is_check = sys.argv[1:] == ["--check"]
    for source in sorted(KERNELS.glob("*.cu")):
        path = KERNELS / "ptx" / f"{source.stem}.ptx"
        ptx = compile_ptx(nvrtc, source)
        if is_check and (not path.exists() or path.read_text() != ptx):
            sys.exit(f"{path} is not what {source.name} compiles to: run scripts/ptx.sh")
        check(path.name, b"fmaf(" in source.read_bytes(), ptx, ptxas)
        if not is_check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(ptx)
        print(f"{path.name}: {len(ptx)} bytes, no spills on {', '.join(CARDS)}")


main()
