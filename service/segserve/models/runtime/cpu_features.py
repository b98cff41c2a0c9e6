"""Features of the CPU that graphs are run by."""

from functools import lru_cache
from pathlib import Path

# Linux's names of the instructions that multiply in bf16, the fastest first. They round differently.
BF16_INSTRUCTIONS = ("amx_bf16", "avx512_bf16")


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
    """Return the fastest instructions by which this CPU multiplies in bf16, as Linux names them, or None."""
    return next((name for name in BF16_INSTRUCTIONS if name in read_cpu_flags()), None)
