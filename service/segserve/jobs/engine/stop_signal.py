"""The signal that stops a running job (cancelled, taken over by another worker) or a worker that shuts down."""

import threading


class JobStopped(Exception):
    """The job must stop here: it was cancelled, another worker holds it, or this worker shuts down."""


class StopSignal:
    """`StopSignal` is set on the event loop and checked in any thread between two units of work."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        self._event.set()

    def is_set(self) -> bool:
        return self._event.is_set()

    def raise_if_set(self) -> None:
        """Raises JobStopped."""
        if self._event.is_set():
            raise JobStopped
