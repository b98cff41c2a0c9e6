"""A module for a sandbox: it does what a reader that was taken over by its file would do, and answers how that went."""

import ctypes
import mmap
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from segserve.sandbox.confine import Confinement, allow_cpu_time, allow_memory, confine
from segserve.sandbox.messages import Channel

kept: list[Any] = []


def warm_up() -> None:
    pass


def serve(channel: Channel) -> None:
    first = channel.receive()
    channel.send({"missing": confine(Confinement(**first))})
    while True:
        request, files = channel.receive_with_files()
        try:
            result = globals()["do_" + request["do"]](*request.get("with", []), *files)
            channel.send({"result": result})
        except MemoryError:
            channel.send({"error": "MemoryError"})
        except OSError as error:
            channel.send({"error": type(error).__name__, "errno": error.errno})


def do_pid() -> int:
    return os.getpid()


def do_allocate(size: int, *, allowed: int = 0) -> int:
    if allowed:
        allow_memory(allowed)
    return len(mmap.mmap(-1, size))


def do_ask_and_allocate(size: int) -> int:
    return do_allocate(size, allowed=size)


def do_raise_limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def do_compute(seconds: float) -> None:
    allow_cpu_time(seconds)
    while True:
        pass


def do_sleep() -> None:
    time.sleep(600)


def do_crash(number: int) -> None:
    os.kill(os.getpid(), number)


def do_abort() -> None:
    os.abort()


def do_read_address(address: int) -> None:
    ctypes.string_at(address)


def do_fork() -> None:
    if not os.fork():
        os._exit(0)


def do_execute() -> None:
    subprocess.run(["true"], check=True)


def do_replace() -> None:
    os.execv(sys.executable, [sys.executable, "-c", ""])


def do_start_thread() -> bool:
    thread = threading.Thread(target=kept.append, args=(1,))
    thread.start()
    thread.join()
    return bool(kept)


def do_open_socket(family: int) -> None:
    socket.socket(family).close()


def do_kill(pid: int) -> None:
    os.kill(pid, signal.SIGTERM)


def do_read(path: str) -> int:
    return len(Path(path).read_bytes())


def do_list(path: str) -> int:
    return len(os.listdir(path))


def do_write(path: str, size: int = 1) -> None:
    with open(path, "wb") as file:
        while size > 0:
            size -= file.write(bytes(min(size, 1 << 20)))


def do_link(source: str, path: str) -> None:
    os.symlink(source, path)
    Path(path).read_bytes()


def do_open_files(count: int) -> None:
    for _ in range(count):
        kept.append(os.dup(1))


def do_print(text: str) -> None:
    os.write(1, text.encode())
    os.write(2, text.encode())


def do_remember(value: str) -> list[str]:
    kept.append(value)
    return kept


def do_environment() -> dict[str, str]:
    return dict(os.environ)


def do_count_descriptors() -> int:
    count = 0
    for number in range(3, 200):
        with suppress(OSError):
            os.fstat(number)
            count += 1
    return count


def do_shrink(descriptor: int) -> None:
    os.ftruncate(descriptor, 0)


def do_fresh_memory(size: int) -> int:
    """The bytes of newly allocated memory that are not 0, after the same amount was filled and freed."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc.argtypes = [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    for _ in range(8):
        block = libc.malloc(size)
        ctypes.memset(block, 0x53, size)
        libc.free(block)
    block = libc.malloc(size)
    return sum(byte != 0 for byte in ctypes.string_at(block, size))
