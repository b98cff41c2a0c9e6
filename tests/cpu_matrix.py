"""The numerical tests under the instruction sets of other CPUs, with one thread and with two; and all tests that
hypothesis writes examples for, with other examples.

    python -m tests.cpu_matrix               everything that this CPU can show; half an hour on two cores
    python -m tests.cpu_matrix avx2-1        one of the settings

torch, oneDNN, MKL and numpy can be told to leave instructions unused. ONNX Runtime cannot: it takes what there is.
Prints a line for each setting. The exit status is 1 if a test failed under any of them.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from numpy._core import _multiarray_umath as numpy_core

# What compares numbers with another library's, or with the same code's on another path.
TESTS = [
    "tests/automatic",
    "tests/decode",
    "tests/encode/test_preprocess.py",
    "tests/evaluate",
    "tests/images",
    "tests/instances",
    "tests/masks",
    "tests/models",
    "tests/projection",
    "tests/sam2_memory",
    "tests/semantic",
    "tests/test_rounding.py",
    "tests/train",
    "tests/wire/test_automatic.py",
    "tests/wire/test_automatic_amg.py",
    "tests/wire/test_semantic.py",
]

# Instruction set: what torch, oneDNN and MKL call it.
LEVELS = {
    "default": ("default", "SSE41", "SSE4_2"),
    "avx2": ("avx2", "AVX2", "AVX2"),
    "avx512": ("avx512", "AVX512_CORE", "AVX512"),
}
SEEDS = range(1, 6)  # of hypothesis: other examples
# What does not draw examples is the same under every seed.
DRAWN_TESTS = sorted(
    str(path)
    for path in Path("tests").rglob("test_*.py")
    if "import hypothesis" in (text := path.read_text()) or "from hypothesis" in text
)


def disabled_in_numpy(level: str) -> str:
    """numpy's optional instruction sets that this CPU has and the level has not."""
    above = {"default": ("",), "avx2": ("V4", "AVX512"), "avx512": ()}[level]
    available = [name for name in numpy_core.__cpu_dispatch__ if numpy_core.__cpu_features__[name]]
    return " ".join(name for name in available if any(part in name for part in above))


def settings() -> dict[str, tuple[dict[str, str], list[str]]]:
    """By name: the environment, and pytest's options and files."""
    found: dict[str, tuple[dict[str, str], list[str]]] = {}
    has_avx512 = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    for level, (in_torch, in_onednn, in_mkl) in LEVELS.items():
        if level == "avx512" and not has_avx512:
            continue
        for threads in ("1", "2"):
            environment = {
                "ATEN_CPU_CAPABILITY": in_torch,
                "ONEDNN_MAX_CPU_ISA": in_onednn,
                "MKL_ENABLE_INSTRUCTIONS": in_mkl,
                "NPY_DISABLE_CPU_FEATURES": disabled_in_numpy(level),
                "OMP_NUM_THREADS": threads,
                "MKL_NUM_THREADS": threads,
            }
            found[f"{level}-{threads}"] = (environment, TESTS)
    for seed in SEEDS:
        found[f"seed-{seed}"] = ({}, [f"--hypothesis-seed={seed}", *DRAWN_TESTS])
    return found


def main(names: list[str]) -> int:
    available = settings()
    if unknown := set(names) - set(available):
        print(f"This CPU has no {', '.join(sorted(unknown))}; there are {', '.join(available)}.")
        return 2
    print(
        f"torch {torch.__version__}, numpy {np.__version__}, {torch.backends.cpu.get_cpu_capability()}",
        flush=True,
    )
    failed = False
    for name in names or available:
        environment, arguments = available[name]
        begun = time.monotonic()
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-n", "2", *arguments]
        done = subprocess.run(
            command,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        output = done.stdout.strip().splitlines()
        print(f"{name:12} {time.monotonic() - begun:6.0f} s  {output[-1] if output else ''}", flush=True)
        if done.returncode:
            failed = True
            print(
                "\n".join(line for line in output if line.startswith(("FAILED", "ERROR", "E  "))), flush=True
            )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
