"""A process that ends when the one that started it does."""

import os
import signal
import sys
import threading


def stop_when_stdin_closes() -> None:
    """End this process when its parent ends.

    The parent holds the other end of standard input, which closes with it.
    """

    def wait() -> None:
        # os.read has no buffer: a buffered reader would hold its lock at exit.
        while os.read(sys.stdin.fileno(), 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="parent", daemon=True).start()
