"""Gauges: what the parts of a runtime hold at the moment, for the page of metrics."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy.pool import QueuePool

from mercato.server.stored_gauges import StoredGauges

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
        lambda: _in_use(runtime.database, runtime.job_database),
        label="role",
    )
    StoredGauges(runtime.database).watch(metrics)
    metrics.gauge("mercato_plugins_disabled", "Plugins that are left out.", lambda: len(runtime.plugins.failures))
    _watch_jobs(runtime)


def watch_streams(metrics: Metrics, listening: Listening, writers: Writers) -> None:
    """Show how many streams are open: those of `subscriptions/listen`, and those of sessions."""
    metrics.gauge(
        "mercato_streams",
        "Open streams, by kind.",
        lambda: {"listen": listening.count, "session": len(writers.all())},
        label="kind",
    )


def _watch_jobs(runtime: Runtime) -> None:
    metrics, samples = runtime.metrics, runtime.job_samples
    metrics.before_page.append(samples.refresh)
    shown = {
        "waiting": ("mercato_jobs_waiting", "Runs that wait, in the whole ledger."),
        "due": ("mercato_jobs_due", "Those of them that could begin now."),
        "oldest_due_s": ("mercato_jobs_oldest_due_seconds", "For how long the oldest of these has been due."),
        "running": ("mercato_jobs_running", "Runs that some worker is at."),
    }
    for figure, (name, text) in shown.items():
        metrics.gauge(name, text, partial(samples.of, figure), label="job")
    metrics.gauge("mercato_jobs_dead", "Runs that have failed for good.", lambda: samples.dead.value or {}, label="job")
    metrics.gauge(
        "mercato_jobs_running_here",
        "Runs that this process is at.",
        lambda: 0 if runtime.worker is None else len(runtime.worker.running.runs),
    )
    metrics.gauge(
        "mercato_job_worker",
        "Whether this process works in the background.",
        lambda: runtime.worker is not None and runtime.worker.is_working,
    )


def _in_use(*databases: Database | None) -> dict[str, float]:
    used: dict[str, float] = {}
    for database in filter(None, databases):
        for role, engine in database.engines.items():
            used[role] = used.get(role, 0) + _pool(engine).checkedout()
    return used


def _pool(engine: Any) -> QueuePool:
    pool: QueuePool = engine.sync_engine.pool
    return pool
