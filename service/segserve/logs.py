"""Structured logs (structlog): one line for each event, as text or JSON, with the request id."""

import logging
import sys

import structlog


def configure_logging(log_format: str, level: str) -> None:
    """Send all logs to stderr. Values bound to structlog's context, such as the request id, are on every line.

    log_format: "json", or "text". level: the name of a level of the logging module.
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
