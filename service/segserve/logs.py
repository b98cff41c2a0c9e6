"""Structured logs: one line an event, as text to read or as JSON to collect, with the request's id."""

import logging
import sys

import structlog


def configure_logging(log_format: str, level: str) -> None:
    """Everything goes to stderr. Values bound to structlog's context (the request id) are on every line."""
    # tifffile logs an error for each damaged tag: whoever uploads could fill the log. The refusal is logged.
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    renderer = (
        structlog.processors.JSONRenderer()
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
