"""Gauges: what the parts of a runtime hold at the moment, for the page of metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.pool import QueuePool

if TYPE_CHECKING:
    from mercato.server.mcp.listen import Listening
    from mercato.server.mcp.sessions.writers import Writers
    from mercato.server.metrics import Metrics
    from mercato.server.runtime import Runtime
    from mercato.tenancy.database import Database


def watch(runtime: Runtime) -> None:
    """Show what the parts of this runtime hold."""
    metrics = runtime.metrics
    metrics.gauge(
        "mercato_changes_connected",
        "Whether changes of other processes arrive: 1, or 0 while Redis is away.",
        lambda: runtime.changes.connected,
    )
    metrics.gauge(
        "mercato_limits_local",
        "Whether limits are counted by this process alone, because Redis is away.",
        lambda: runtime.limiter.local,
    )
    metrics.gauge(
        "mercato_usage_backlog", "Records of usage that are not in the database yet.", lambda: runtime.usage.backlog
    )
    metrics.counter("mercato_usage_written", "Records of usage in the database.", lambda: runtime.usage.written)
    metrics.counter("mercato_usage_batches", "Batches in which they were written.", lambda: runtime.usage.batches)
    metrics.counter("mercato_usage_dropped", "Records of usage that were given up.", lambda: runtime.usage.dropped)
    metrics.gauge(
        "mercato_database_connections",
        "Connections to the database that are in use, by role.",
        lambda: _in_use(runtime.database),
        label="role",
    )
    metrics.gauge("mercato_plugins_disabled", "Plugins that are left out.", lambda: len(runtime.plugins.failures))


def watch_streams(metrics: Metrics, listening: Listening, writers: Writers) -> None:
    """Show how many streams are open: those of `subscriptions/listen`, and those of sessions."""
    metrics.gauge(
        "mercato_streams",
        "Open streams, by kind.",
        lambda: {"listen": listening.count, "session": len(writers.all())},
        label="kind",
    )


def _in_use(database: Database) -> dict[str, float]:
    return {role: _pool(engine).checkedout() for role, engine in database.engines.items()}


def _pool(engine: Any) -> QueuePool:
    pool: QueuePool = engine.sync_engine.pool
    return pool
