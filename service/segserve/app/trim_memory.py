"""Memory that was freed goes back to the system. glibc keeps it for this process otherwise, for hours."""

import asyncio
import os
import sys
from pathlib import Path

from segserve.memory_budget import return_freed_memory

# Trimming 300 MB in 10,000 pieces takes 50 ms of a core, in a thread; meanwhile others may wait for memory.
CHECK_INTERVAL_S = 5.0
# It is worth it once the process has grown by so much.
MIN_GROWTH_BYTES = 32_000_000
RESIDENT_PAGES = Path("/proc/self/statm")


async def keep_memory_trimmed() -> None:
    """Give freed memory back after a burst of requests, until cancelled. Other systems than Linux do so themselves."""
    if sys.platform != "linux":
        return
    settled_bytes = read_resident_bytes()
    while True:
        await asyncio.sleep(CHECK_INTERVAL_S)
        resident_bytes = read_resident_bytes()
        if resident_bytes > settled_bytes + MIN_GROWTH_BYTES:
            await asyncio.to_thread(return_freed_memory)
            settled_bytes = read_resident_bytes()
        else:
            settled_bytes = min(settled_bytes, resident_bytes)


def read_resident_bytes() -> int:
    return int(RESIDENT_PAGES.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
