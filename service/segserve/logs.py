"""Structured logs (structlog): one line for each event, as text or JSON, with the request id."""

import logging
import re
import sys
from functools import partial
from typing import Any

import structlog

from segserve.identity.identity import LOCAL_IDENTITY, current_identity

# What a terminal obeys, and what ends a line: control characters, line separators, marks that reverse text.
CONTROL_CHARACTERS = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
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


def configure_logging(log_format: str, level: str, process: int | None = None) -> None:
    """Send all logs to stderr. Values bound to structlog's context, such as the request id, are on every line.

    log_format: "json", or "text". level: the name of a level of the logging module. process: the number of this one
    among several, on every line too.
    """
    # tifffile logs an error for each damaged tag, so an upload could fill the log. Our refusal is logged anyway.
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
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
