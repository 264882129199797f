"""Logs: structured, on stderr; JSON where nobody watches, colours where somebody does; secrets masked."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Callable, Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any

import orjson
import structlog

from mercato.tenancy.audit import masked

_MOMENT_S = 0.05
_OPENING = b'{"event":"request","logger":"mercato.access","level":"info",'
_OPTIONS = orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE
_Line = tuple[str, str, Mapping[str, Any], int, float, str]
_KEPT_AS_IT_IS = frozenset({"exc_info", "_record", "_from_structlog"})


def configure_logs(level: str = "info") -> None:
    """Send everything that is logged, ours and the libraries', through one chain to stderr."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _mask,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=_rendering()))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for noisy in (
        "mcp",
        "httpx",
        "httpx2",
        "alembic",
        "uvicorn.error",
        "sse_starlette",
        "asyncio",
        "sqlalchemy",
        "arq",
    ):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))


class AccessLog:
    """Writes a line for each HTTP request.

    Where nobody watches, lines go past the chain, which costs fifty times as much (their fields are ours, and hold no
    secret), and are made and written together a moment later: that keeps them out of the way of what is answered.
    """

    def __init__(self) -> None:
        self._logger = logging.getLogger("mercato.access")
        self._shown = sys.stderr.isatty()
        self._waiting: list[tuple[_Line, float]] = []
        self.count: Callable[[str, int], object] | None = None
        """Told of each request's path and status, also where nothing is logged."""

    def __call__(
        self, method: str, path: str, said: Mapping[str, Any], status: int, seconds: float, request_id: str
    ) -> None:
        """Take down a request that was answered, after so many seconds. `said` is what else is known of it."""
        if self.count is not None:
            self.count(path, status)
        if not self._logger.isEnabledFor(logging.INFO):
            return
        line = method, path, said, status, seconds, request_id
        if self._shown:
            structlog.stdlib.get_logger("mercato.access").info("request", **_fields(*line))
            return
        if not self._waiting:
            asyncio.get_running_loop().call_later(_MOMENT_S, self.flush)
        self._waiting.append((line, time.time()))

    def flush(self) -> None:
        """Write what was taken down."""
        if self._waiting:
            lines = [
                _OPENING
                + orjson.dumps(_fields(*line) | {"timestamp": datetime.fromtimestamp(at, UTC)}, option=_OPTIONS)[1:]
                for line, at in self._waiting
            ]
            self._waiting.clear()
            sys.stderr.write(b"".join(lines).decode())


def _fields(
    method: str, path: str, said: Mapping[str, Any], status: int, seconds: float, request_id: str
) -> dict[str, Any]:
    ms = round(seconds * 1000, 1)
    return {"method": method, "path": path, **said, "status": status, "ms": ms, "request_id": request_id}


def _rendering() -> list[Any]:
    drop = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    if sys.stderr.isatty():
        return [drop, structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    return [drop, structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]


def _mask(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name, value in event.items():
        if name not in _KEPT_AS_IT_IS:
            event[name] = masked({name: value})[name]
    return event
