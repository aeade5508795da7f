"""Logging for the command line: structured events on stderr."""

import logging
import sys
from collections.abc import Mapping
from typing import Any

import structlog

from faceattr_udf.sanitize import printable, redacted


def configure_logging() -> None:
    """Sends log events to stderr: colored lines on a terminal, JSON lines elsewhere."""
    render = structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _sanitize,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        # sys.stderr is looked up when a line is logged, because a progress bar or a test may have replaced it.
        logger_factory=lambda *_: structlog.PrintLogger(file=sys.stderr),
    )


def _sanitize(_: object, __: str, event: Mapping[str, Any]) -> Mapping[str, Any]:
    """Prevents untrusted names from forging log lines, controlling the terminal, or leaking secrets."""
    return {key: _sanitized(value) for key, value in event.items()}


def _sanitized(value: Any) -> Any:  # noqa: ANN401 - log fields hold anything
    if isinstance(value, str):
        return printable(redacted(value))
    if isinstance(value, list | tuple):
        return [_sanitized(item) for item in value]
    return value
