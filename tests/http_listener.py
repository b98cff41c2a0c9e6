"""Run an HTTP server of the standard library in a thread."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer

POLL_S = 0.02  # how soon the thread sees that it must end


@contextmanager
def listening(server: ThreadingHTTPServer) -> Iterator[None]:
    """Answer requests while the block runs, then close the server."""
    thread = threading.Thread(target=server.serve_forever, args=(POLL_S,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
