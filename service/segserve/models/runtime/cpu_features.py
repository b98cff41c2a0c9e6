"""Features of the CPU that graphs are run by."""

import os
from functools import lru_cache
from pathlib import Path

# Linux's names of the instructions that multiply in bf16, the fastest first. They round differently.
BF16_INSTRUCTIONS = ("amx_bf16", "avx512_bf16")
# oneDNN, which OpenVINO computes by, leaves instructions above this level unused. The levels are oneDNN's names.
ISA_VARIABLE = "ONEDNN_MAX_CPU_ISA"
UNLIMITED_ISAS = ("", "ALL", "DEFAULT")
AVX512_BF16_ISAS = ("AVX512_CORE_BF16", "AVX512_CORE_FP16", "AVX10_1_512")


@lru_cache(maxsize=1)
def read_cpu_flags() -> frozenset[str]:
    """Return the CPU's features as Linux names them; empty on other systems."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    flags = (line.partition(":")[2].split() for line in lines if line.startswith("flags"))
    return frozenset(next(flags, []))


def find_bf16_instructions() -> str | None:
    """Return the fastest instructions by which this CPU multiplies in bf16, as Linux names them, or None.

    Instructions that oneDNN is told to leave unused do not count: OpenVINO fails on graphs in bf16 without them.
    """
    allowed = allow_bf16_instructions(os.environ.get(ISA_VARIABLE, "").upper())
    return next((name for name in allowed if name in read_cpu_flags()), None)


def allow_bf16_instructions(isa: str) -> tuple[str, ...]:
    """Return those of `BF16_INSTRUCTIONS` that a level of oneDNN's allows."""
    if isa in UNLIMITED_ISAS or "AMX" in isa:
        return BF16_INSTRUCTIONS
    return ("avx512_bf16",) if isa in AVX512_BF16_ISAS else ()
