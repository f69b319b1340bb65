"""Structured logs: one JSON object a line on stderr, or coloured text on a terminal.

Never logged: prompts, generated text, credentials, values that failed validation.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any, Literal

import orjson
import structlog

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["auto", "json", "text"]


def configure(service: str, level: Level = "info", fmt: Format = "auto") -> None:
    """Sets up structlog and the standard library's logging for the process."""
    text = fmt == "text" or (fmt == "auto" and sys.stderr.isatty())
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        _named(service),
    ]
    renderers: list[structlog.types.Processor] = (
        [_console()]
        if text
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(_json)]
    )
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*shared, *renderers],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(number, logging.WARNING))


def _named(service: str) -> structlog.types.Processor:
    def add(
        logger: structlog.types.WrappedLogger, name: str, event: structlog.types.EventDict
    ) -> structlog.types.EventDict:
        del logger, name
        event["service"] = service
        return event

    return add


def _json(event: Any, default: Callable[[Any], Any]) -> str:
    return orjson.dumps(event, default=default).decode()


def _console() -> structlog.types.Processor:
    # The default prints the values of local variables: prompts and tokens among them.
    return structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
    )
