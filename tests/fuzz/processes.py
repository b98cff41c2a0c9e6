"""What /proc says of a process and its descendants."""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
NS_PER_S = 1e9


@dataclass(frozen=True)
class ProcessId:
    """`ProcessId` is a process that no later one is confused with. start: in ticks since the machine's start."""

    pid: int
    start: int

    def command(self) -> str:
        """Return the first words of its command line."""
        with suppress(OSError):
            words = (PROC / str(self.pid) / "cmdline").read_bytes().split(b"\0")
            return b" ".join(words[:5]).decode("utf-8", "replace")
        return ""

    def resident_bytes(self) -> int:
        """Return its resident memory, 0 where it is gone."""
        with suppress(OSError, IndexError):
            return int((PROC / str(self.pid) / "statm").read_text().split()[1]) * PAGE_BYTES
        return 0

    def waited_s(self) -> float:
        """Return how long its main thread was ready to run and had no core, since it started."""
        with suppress(OSError, IndexError):
            return int((PROC / str(self.pid) / "schedstat").read_text().split()[1]) / NS_PER_S
        return 0.0


def read_stat(pid: int) -> tuple[ProcessId, int] | None:
    """Return the process and its parent's number; None where it is gone, or has ended and was not waited for."""
    with suppress(OSError, IndexError, ValueError):
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        if fields[0] not in "ZX":
            return ProcessId(pid, int(fields[19])), int(fields[1])
    return None


def list_descendants(pid: int) -> list[ProcessId]:
    """Return the processes below a process, not itself."""
    children: dict[int, list[ProcessId]] = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit() and (found := read_stat(int(entry.name))) is not None:
            children.setdefault(found[1], []).append(found[0])
    below, queue = list[ProcessId](), [pid]
    while queue:
        for child in children.get(queue.pop(), []):
            below.append(child)
            queue.append(child.pid)
    return below
