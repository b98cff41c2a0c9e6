"""Structured logs (structlog): one line for each event, as text or JSON, with the request id."""

import logging
import re
import sys
import time
from functools import partial
from typing import Any

import structlog

from segserve.identity.identity import LOCAL_IDENTITY, current_identity

# What a terminal obeys, and what ends a line: control characters, line separators, marks that reverse text.
CONTROL_CHARACTERS = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
# What a library said of a server that is away it says again after so long a silence.
QUIET_S = 60.0
TRACEBACKS = ("exception", "stack")  # keys whose values have several lines
TRACEBACK_INDENT = "\n    "


def escape_text(text: str) -> str:
    """Write control characters as \\x1b or \\u2028."""

    def escape(match: re.Match[str]) -> str:
        code = ord(match[0])
        return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"

    return CONTROL_CHARACTERS.sub(escape, text)


def escape_control_characters(logger: Any, method: str, event: Any) -> Any:
    """A structlog processor. What clients send cannot begin a line of the log, nor control the reader's terminal.

    Tracebacks keep their lines, and indent them.
    """
    escaped = {}
    for key, value in event.items():
        if isinstance(value, str):
            parts = value.split("\n") if key in TRACEBACKS else [value]
            value = TRACEBACK_INDENT.join(map(escape_text, parts))
        escaped[escape_text(key)] = value
    return escaped


def add_process(process: int, logger: Any, method: str, event: Any) -> Any:
    """A structlog processor."""
    return {**event, "process": process}


def add_identity(logger: Any, method: str, event: Any) -> Any:
    """A structlog processor: whose request a line is about, where keys are asked for, or whose job."""
    identity = current_identity.get(None)
    if identity is not None and identity.tenant and identity is not LOCAL_IDENTITY:
        event.setdefault("tenant", identity.tenant)
        event.setdefault("by", identity.name)
    return event


class LibraryLog(logging.Handler):
    """`LibraryLog` writes what a library logs as lines of ours.

    While a server is away, a library may say so again and again, each time with a traceback: that is one line, without
    it. Other exceptions keep theirs.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._last_said: dict[str, float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger(record.name)
        error = record.exc_info[1] if record.exc_info else None
        if error is None or not is_connection_error(error):
            log.log(record.levelno, record.getMessage(), exc_info=error)
            return
        now = time.monotonic()
        if now - self._last_said.get(record.name, -QUIET_S) >= QUIET_S:
            log.warning(record.getMessage(), reason=type(error).__name__)
        self._last_said[record.name] = now


def is_connection_error(error: BaseException) -> bool:
    """Return whether a server is away. redis-py's errors are no OSErrors, and it is imported by few processes."""
    names = {kind.__name__ for kind in type(error).__mro__ if kind.__module__.startswith("redis.")}
    return isinstance(error, OSError) or bool(names & {"ConnectionError", "TimeoutError"})


def configure_logging(log_format: str, level: str, process: int | None = None) -> None:
    """Send all logs to stderr. Values bound to structlog's context, such as the request id, are on every line.

    log_format: "json", or "text". level: the name of a level of the logging module. process: the number of this one
    among several, on every line too.
    """
    # tifffile logs an error for each damaged tag, so an upload could fill the log. Our refusal is logged anyway.
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    docket = logging.getLogger("docket")
    docket.handlers, docket.propagate = [LibraryLog()], False
    renderer = (
        structlog.processors.JSONRenderer()
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        add_identity,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        *([] if process is None else [partial(add_process, process)]),
        structlog.processors.format_exc_info,
        escape_control_characters,
    ]
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
