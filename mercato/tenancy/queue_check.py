"""Whether the queue moves: how long what is due has waited, what died lately, which circuits stay open."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import timedelta

import sqlalchemy as sa
from sqlmodel import col

from mercato.tenancy.alerts import Cause
from mercato.tenancy.circuits import Circuit
from mercato.tenancy.database import Database
from mercato.tenancy.job_backlog import read_oldest_due
from mercato.tenancy.ledger import JobRun
from mercato.tenancy.ledger_choosing import Limit
from mercato.tenancy.rows import utc_now

LATE, VERY_LATE = timedelta(minutes=5), timedelta(minutes=30)
DEAD_WITHIN = timedelta(hours=1)
OPEN_FOR, OPEN_LONG = timedelta(minutes=10), timedelta(hours=1)
_MOST_NAMED = 5


async def check_queue(database: Database, names: Collection[str], limits: Collection[Limit]) -> Sequence[Cause]:
    """Return what is wrong with the queue. Runs of other jobs, and what no further worker would begin, are not late."""
    now = utc_now()
    waited = timedelta(seconds=await read_oldest_due(database.pool, names, limits))
    async with database.system() as session:
        connection = await session.connection()
        recent = (col(JobRun.state) == "dead", col(JobRun.finished_at) > now - DEAD_WITHIN)
        counted = sa.select(col(JobRun.name), sa.func.count().label("runs")).where(*recent)
        dead = (await connection.execute(counted.group_by(col(JobRun.name)).order_by(sa.desc("runs")))).all()
    causes = []
    if waited > LATE:
        minutes = int(waited.total_seconds() // 60)
        text = f"The oldest run that is due has waited for {minutes} minutes: start more workers (`mercato worker`)."
        causes.append(Cause("queue.late", "critical" if waited > VERY_LATE else "warning", text))
    if dead:
        named = ", ".join(f"{name} ({runs})" for name, runs in dead[:_MOST_NAMED])
        text = f"{sum(row.runs for row in dead)} runs have died within an hour: {named}."
        causes.append(Cause("queue.dead", "warning", f"{text} `mercato jobs list --state dead` shows them."))
    return causes


async def check_circuits(database: Database) -> Sequence[Cause]:
    """Return the integrations that have been away from a tenant for long."""
    now, opened_at = utc_now(), col(Circuit.opened_at)
    statement = sa.select(col(Circuit.tenant_id), col(Circuit.integration), opened_at)
    async with database.system() as session:
        rows = (await (await session.connection()).execute(statement.where(opened_at < now - OPEN_FOR))).all()
    return [
        Cause(
            f"circuit.{row.integration}",
            "critical" if now - row.opened_at > OPEN_LONG else "warning",
            f"{row.integration} has not answered since {row.opened_at:%Y-%m-%d %H:%M} UTC: jobs wait for it.",
            row.tenant_id,
        )
        for row in rows
    ]
