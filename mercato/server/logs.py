"""Logs: structured, on stderr; JSON where nobody watches, colours where somebody does; secrets masked."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import Any

import orjson
import structlog

from mercato.tenancy.audit import masked

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
    for noisy in ("mcp", "httpx", "httpx2", "alembic", "uvicorn.error", "sse_starlette", "asyncio", "sqlalchemy"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))


def log_request(**fields: Any) -> None:
    """Write the line of one HTTP request.

    Every request has one, so where nobody watches it goes past the chain, which costs fifty times as much: its fields
    are ours, and hold no secret.
    """
    access = logging.getLogger("mercato.access")
    if not access.isEnabledFor(logging.INFO):
        return
    if sys.stderr.isatty():
        structlog.stdlib.get_logger("mercato.access").info("request", **fields)
        return
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    line = {"event": "request", **fields, "logger": "mercato.access", "level": "info", "timestamp": now}
    sys.stderr.write(orjson.dumps(line).decode() + "\n")


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
