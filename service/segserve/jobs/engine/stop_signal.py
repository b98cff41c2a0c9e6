"""The signal by which a running job is stopped: cancelled, taken over by another worker, or given back at shutdown."""

import threading


class JobStopped(Exception):
    """The job must stop here: it was cancelled, another worker holds it, or this worker is shutting down."""


class StopSignal:
    """`StopSignal` is set on the event loop and checked in any thread between two units of work."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        self._event.set()

    def raise_if_set(self) -> None:
        """Raises JobStopped."""
        if self._event.is_set():
            raise JobStopped
