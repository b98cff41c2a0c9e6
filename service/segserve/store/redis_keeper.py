"""The keeper of a private Redis: the server's parent, which ends it some time after its last user has ended.

    python -I -S redis_keeper.py USERS_LOCK PID_FILE GRACE_S COMMAND...

A process that is killed cannot stop its server, but the kernel drops its lock. The keeper is a process of its own with
one thread, since PR_SET_PDEATHSIG follows the thread that started a process, not the process. It imports nothing of
this package, and so takes 10 MB.
"""

import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import time

POLL_S = 0.5
_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Have this process end when the keeper does, even if that is killed. Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def is_used(users: int) -> bool:
    """Return whether a process holds the shared lock that each user of the server holds."""
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(users, fcntl.LOCK_UN)
    return False


def become_daemon() -> int:
    """Go on in a process of its own session. The first one ends with 0 as soon as a byte is written to the returned
    pipe, and with 1 if that is closed before."""
    reading, writing = os.pipe()
    if os.fork():
        os.close(writing)
        os._exit(0 if os.read(reading, 1) else 1)
    os.close(reading)
    os.setsid()
    return writing


def keep(server: "subprocess.Popen[bytes]", users: int, grace_s: float) -> None:
    """Wait until the server has ended by itself, or end it once it has had no user for `grace_s` seconds."""
    last_used = time.monotonic()
    while not has_ended(server):
        if is_used(users):
            last_used = time.monotonic()
        elif time.monotonic() - last_used > grace_s:
            try:
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            # Held until the server has ended: whoever starts now waits, and then starts another.
            server.terminate()
            server.wait()


def has_ended(server: "subprocess.Popen[bytes]") -> bool:
    """Return whether the server has ended, after a while if not."""
    try:
        server.wait(POLL_S)
    except subprocess.TimeoutExpired:
        return False
    return True


def main() -> None:
    """Start the server as a daemon, and keep it. Ends with 1 where the server does not start."""
    users_path, pid_path, grace_s, command = sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4:]
    started = become_daemon()
    users = os.open(users_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    server = subprocess.Popen(command, preexec_fn=end_with_parent)
    signal.signal(signal.SIGTERM, lambda *_: server.terminate())
    while not os.path.exists(pid_path):
        if server.poll() is not None:
            sys.exit(1)
        time.sleep(0.005)
    os.write(started, b"\1")
    os.close(started)
    keep(server, users, grace_s)


if __name__ == "__main__":
    main()
