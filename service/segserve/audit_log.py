"""The audit log: one line of JSON for each request that stored, changed, deleted or read data, and who sent it.

Lines are written by a thread: a slow disk delays no request. A normal stop writes all of them. Where more wait than
memory has room for, new ones are dropped, and the service's own log says how many.
"""

import logging
import sys
import time
from contextlib import suppress
from logging.handlers import QueueHandler, QueueListener, WatchedFileHandler
from pathlib import Path
from queue import Full, Queue
from typing import Any

import structlog

from segserve.errors import BadInput

SETTING = "SEGSERVE_AUDIT_LOG"
# Stands for standard error.
STDERR = "-"
# The log tells who did what: only its owner reads it.
FILE_MODE = 0o600
# Lines that may wait for the disk. Refused requests have lines too: so nobody fills the memory by sending them.
MAX_WAITING = 100_000
# How often dropped lines are told of.
REPORT_S = 60.0

log = structlog.get_logger(__name__)


class AuditHandler(WatchedFileHandler):
    """`AuditHandler` writes to a file, and to a new one where the old one was moved away, as logrotate does."""

    def handleError(self, record: logging.LogRecord) -> None:
        """A line that cannot be written, as on a full disk, is in the service's own log."""
        log.error("audit line not written", reason=str(sys.exc_info()[1]), line=record.getMessage())


class BoundedHandler(QueueHandler):
    """`BoundedHandler` drops and counts the lines for which a queue has no room."""

    def __init__(self, queue: Queue[Any]) -> None:
        super().__init__(queue)
        self._dropped, self._report_at = 0, 0.0

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except Full:
            self._dropped += 1
            if time.monotonic() >= self._report_at:
                self._report()

    def close(self) -> None:
        """Tell of what was dropped since the last report."""
        if self._dropped:
            self._report()
        super().close()

    def _report(self) -> None:
        log.error("audit lines dropped: they come faster than they are written", lines=self._dropped)
        self._dropped, self._report_at = 0, time.monotonic() + REPORT_S


class Writer(QueueListener):
    """`Writer` is the thread that writes."""

    def enqueue_sentinel(self) -> None:
        """Put the end behind the last line, once there is room."""
        self.queue.put(self._sentinel)  # type: ignore[attr-defined]


class AuditLog:
    """`AuditLog` writes lines; without a target, none.

    target: a file, or "-" for standard error.
    Raises BadInput for a file that cannot be written to.
    """

    def __init__(self, target: str | None) -> None:
        self._listener: QueueListener | None = None
        if target is None:
            return
        handler = logging.StreamHandler(sys.stderr) if target == STDERR else open_file(Path(target))
        queue = Queue[Any](MAX_WAITING)
        self._listener = Writer(queue, handler)
        self._listener.start()
        # A logger of its own: nothing configures it, and several services in a process stay apart.
        logger = logging.Logger("segserve.audit", logging.INFO)
        self._queued = BoundedHandler(queue)
        logger.addHandler(self._queued)
        self._log = structlog.wrap_logger(
            logger,
            processors=[
                structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
                structlog.processors.EventRenamer("action"),
                structlog.processors.JSONRenderer(),  # in ASCII: nothing in it controls a terminal
            ],
            wrapper_class=structlog.BoundLogger,
            cache_logger_on_first_use=True,
        )

    @property
    def is_on(self) -> bool:
        return self._listener is not None

    def write(self, action: str, **fields: object) -> None:
        """Write a line. fields: who, what and to which data. None of them may be a secret. Never blocks."""
        if self._listener is not None:
            self._log.info(action, **fields)

    def close(self) -> None:
        """Write what is left. Blocks."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.stop()
            self._queued.close()
            for handler in listener.handlers:
                if isinstance(handler, AuditHandler):
                    with suppress(OSError):  # a full disk: the service's own log has the line
                        handler.close()


def open_file(path: Path) -> AuditHandler:
    """Raises BadInput."""
    try:
        path.touch(FILE_MODE)
        return AuditHandler(path, encoding="utf-8")
    except OSError as error:
        raise BadInput(
            f"The audit log cannot be written to: {error.strerror}.",
            field=SETTING,
            remedy="Name a file in a folder that the service may write to, or - for standard error.",
        ) from None
