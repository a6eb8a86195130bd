"""Structured logs: one event a line, on standard error, as text for people or JSON for machines.

An event has a fixed name and fields; nothing is logged per transaction, and no key, signature or payload ever.
"""

from __future__ import annotations

import logging
import sys

import structlog


def configure(level: str, form: str) -> None:
    """Sets up logging for the process. `level` is debug, info, warning or error; `form` is text or json."""
    number = getattr(logging, level.upper())
    renderer: structlog.typing.Processor
    if form == "json":
        renderer = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
    )
    logging.basicConfig(
        level=max(number, logging.WARNING), stream=sys.stderr, format="%(levelname)s %(name)s %(message)s"
    )


def logger() -> structlog.typing.FilteringBoundLogger:
    """The project's logger."""
    log: structlog.typing.FilteringBoundLogger = structlog.get_logger("troth")
    return log
