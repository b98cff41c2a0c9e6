"""Memory that is freed in many small pieces goes back to the system."""

import asyncio
import subprocess
import sys

import pytest

from segserve.app import trim_memory
from segserve.app.trim_memory import keep_memory_trimmed, read_resident_bytes


@pytest.mark.skipif(sys.platform != "linux", reason="glibc on Linux keeps what is freed")
def test_freed_memory_goes_back() -> None:
    """In a process of its own: the heap of this one has room for what is allocated."""
    program = f"import asyncio, {__name__}; asyncio.run({__name__}.allocate_and_free())"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


async def allocate_and_free() -> None:
    trim_memory.CHECK_INTERVAL_S = 0.02
    task = asyncio.create_task(keep_memory_trimmed())
    await asyncio.sleep(0.05)
    before = read_resident_bytes()
    # Blocks below the size that glibc maps by itself; the last one keeps the heap from shrinking.
    blocks = [bytes(100_000) for _ in range(2000)]
    last = blocks.pop()
    assert read_resident_bytes() > before + 100_000_000
    blocks.clear()
    async with asyncio.timeout(60):
        while read_resident_bytes() > before + 50_000_000:
            await asyncio.sleep(0.02)
    assert len(last) == 100_000
    task.cancel()
