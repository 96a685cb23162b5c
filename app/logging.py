"""Structured logs: one JSON object per line on stdout, ours and those of libraries alike.

Never in a log: configs, bodies, headers other than the request id and trace id, raw paths, and the messages
of unexpected exceptions (they can hold input). An exception is its type and the places it came through.
"""

import logging
import sys
import traceback
from types import TracebackType
from typing import Any, TextIO, TypeAlias

import structlog
from structlog.types import EventDict, Processor, WrappedLogger

ExceptionInfo: TypeAlias = tuple[type[BaseException], BaseException, TracebackType | None]


def describe_exception(error: BaseException) -> dict[str, object]:
    """Type and frames of an exception, without its message."""
    frames = traceback.extract_tb(error.__traceback__)
    return {
        "type": type(error).__name__,
        "frames": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames[-12:]],
    }


def configure_logging(level: str) -> None:
    """Send structlog and the standard library's loggers to stdout as JSON."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _without_messages_of_exceptions,
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = _StdoutHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_first_line_only, *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [kept for kept in root.handlers if not isinstance(kept, _StdoutHandler)] + [handler]
    # Libraries speak up for warnings only: at INFO some write whole URLs. uvicorn may say that it starts.
    root.setLevel(max(logging.WARNING, logging.getLevelNamesMapping()[level.upper()]))
    logging.getLogger("uvicorn").setLevel(level.upper())


class _StdoutHandler(logging.StreamHandler[TextIO]):
    """Writes to whatever `sys.stdout` is now."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stdout


def _without_messages_of_exceptions(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    info: Any = event.pop("exc_info", None)
    if isinstance(info, BaseException):
        event["exception"] = describe_exception(info)
    elif info:
        error = (info if isinstance(info, tuple) else sys.exc_info())[1]
        if error is not None:
            event["exception"] = describe_exception(error)
    return event


def _first_line_only(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Asyncio and uvicorn put the exception's text on later lines."""
    event["event"] = str(event["event"]).split("\n", 1)[0]
    return event
