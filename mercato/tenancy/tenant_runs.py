"""Runs of jobs as their tenant sees them, through its own view of the database."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlmodel import col

from mercato.tenancy.database import TenantDatabase
from mercato.tenancy.job_runs import COLUMNS, Figures, Run, select_figures
from mercato.tenancy.ledger import JobRun, State
from mercato.tenancy.pages import Page, read_page
from mercato.tenancy.ticks import ScheduleState


async def list_runs(
    db: TenantDatabase,
    *,
    state: State | None = None,
    name: str | None = None,
    run_id: int | None = None,
    before_id: int | None = None,
    limit: int = 25,
) -> Page[Run]:
    """Return runs, the newest first; below an id, to go on from there."""
    wanted: sa.Select[Any] = sa.select(*COLUMNS)
    for column, value in ((JobRun.state, state), (JobRun.name, name), (JobRun.id, run_id)):
        if value is not None:
            wanted = wanted.where(col(column) == value)
    position = None if before_id is None else col(JobRun.id) < before_id
    return await read_page(db, wanted, _run, order=col(JobRun.id).desc(), position=position, limit=limit)


async def read_figures(db: TenantDatabase) -> list[Figures]:
    """Return how many runs there are, by job and state."""
    return [Figures(*row) for row in await db.rows(select_figures())]


async def read_paused(db: TenantDatabase) -> set[str]:
    """Return the jobs whose schedule is paused for this tenant alone."""
    statement = sa.select(col(ScheduleState.name)).where(col(ScheduleState.paused))
    return {row[0] for row in await db.rows(statement)}


def _run(*values: Any) -> Run:
    return Run(**dict(zip(Run.__dataclass_fields__, values, strict=True)))
