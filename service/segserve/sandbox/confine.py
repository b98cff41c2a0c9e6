"""Take from this process what a parser does not need: memory without end, other files, the network, other processes."""

import ctypes
import os
import resource
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from segserve.sandbox import landlock, seccomp

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_CAPABILITY_VERSION_3 = 0x20080522
# mallopt: the number of heaps, and the byte that new memory is filled with (its complement).
_M_PERTURB = -6
_FILL_WITH_ZEROS = 0xFF
# Folders of libraries, whose modules may be imported late.
LIBRARY_FOLDERS = (Path(sys.prefix), Path(sys.base_prefix), Path(__file__).parents[2])


@dataclass(frozen=True)
class Confinement:
    """`Confinement` says what a process may use.

    readable: the file that it parses.
    scratch: the one folder that it may write to.
    start_memory_bytes: address space on top of what it begins with, until it asks for more by `allow_memory`.
    max_memory_bytes: the most that `allow_memory` gives.
    max_file_bytes: of a file that it writes.
    max_open_files: descriptors.
    """

    readable: str
    scratch: str
    start_memory_bytes: int
    max_memory_bytes: int
    max_file_bytes: int
    max_open_files: int = 256

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


# The address space that this process began with, in bytes; None in a process that is not confined.
_start_memory_bytes: int | None = None
# Asks the service for memory and returns when it is granted; None in a process that asks nobody.
_claim_memory: Callable[[int], None] | None = None
# The most that was claimed: a process keeps it.
_claimed_bytes = 0


def claim_memory_by(claim: Callable[[int], None]) -> None:
    """Have `allow_memory` call `claim` with the bytes that this process will use."""
    global _claim_memory
    _claim_memory = claim


def die_with(parent: int) -> None:
    """End this process when `parent`, which has forked it, ends. Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it has ended before
        os._exit(1)


def confine(to: Confinement) -> list[str]:
    """Confine this process, which must have one thread. Returns the names of kernel features that are missing.

    Memory from `malloc` is zero-filled from here on (glibc), so that decoders which do not fill their buffers show
    nothing that was there before.
    """
    global _start_memory_bytes
    missing = []
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (to.max_open_files, to.max_open_files))
    resource.setrlimit(resource.RLIMIT_FSIZE, (to.max_file_bytes, to.max_file_bytes))
    if sys.platform != "linux":
        return ["memory limits", "Landlock", "seccomp"]
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + to.max_memory_bytes
    _start_memory_bytes = min(pages * resource.getpagesize() + to.start_memory_bytes, most)
    resource.setrlimit(resource.RLIMIT_AS, (_start_memory_bytes, most))
    libc = ctypes.CDLL(None, use_errno=True)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_PERTURB, _FILL_WITH_ZEROS)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    drop_capabilities(libc)
    try:
        has_landlock = landlock.restrict_files((Path(to.readable), *LIBRARY_FOLDERS), (Path(to.scratch),))
    except OSError:  # a container may refuse the system calls
        has_landlock = False
    if not has_landlock:
        missing.append("Landlock")
    if not seccomp.refuse_system_calls():
        missing.append("seccomp")
    return missing


def drop_capabilities(libc: ctypes.CDLL) -> None:
    """Give up root's privileges, in the process of a service that runs as root: root may raise its own limits."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    libc.capset(header, (ctypes.c_uint32 * 6)())


def allow_memory(size: int, *, used: int | None = None) -> None:
    """Let this process take `size` bytes of address space on top of those it began with, up to its maximum.

    used: bytes of them that are used at the same time; None: all. The process first claims these from the service,
    and waits until they are free there.

    What it was allowed before it keeps. Does nothing in a process that is not confined.
    """
    global _claimed_bytes
    if _claim_memory is not None and (claimed := size if used is None else used) > _claimed_bytes:
        _claim_memory(claimed)
        _claimed_bytes = claimed
    if _start_memory_bytes is not None:
        before, most = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (max(before, min(_start_memory_bytes + size, most)), most))


def allow_cpu_time(seconds: float) -> None:
    """Let this process compute for `seconds` from now; then the kernel ends it with SIGXCPU."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(usage.ru_utime + usage.ru_stime + seconds) + 1, most))
