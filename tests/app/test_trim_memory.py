"""Memory that is freed in many small pieces goes back to the system."""

import asyncio
import sys

import pytest

from segserve.app import trim_memory
from segserve.app.trim_memory import keep_memory_trimmed, read_resident_bytes


@pytest.mark.skipif(sys.platform != "linux", reason="glibc on Linux keeps what is freed")
def test_freed_memory_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trim_memory, "CHECK_INTERVAL_S", 0.02)

    async def scenario() -> None:
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

    asyncio.run(scenario())
