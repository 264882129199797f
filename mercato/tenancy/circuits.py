"""Circuits: what is known of an outside service that does not answer a tenant, so that nobody's attempts are spent.

A circuit belongs to a tenant and an integration: each tenant has an account, a host and a credential of its own there,
and an error does not say which of them is the cause. What is wrong with one tenant's shop must not hold up another's.

There is a row from the first outage until the next success, and none else: what goes well is not written down. After
`MOST_OUTAGES` in a row the circuit is open: runs wait, without an attempt, until `open_until`. Then one run at a time
is the trial. If it goes well the row goes, and everything runs; if not, the next pause is longer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlmodel import Field, col

from mercato.tenancy.database import TenantDatabase
from mercato.tenancy.rows import CORE_SCHEMA, TenantOwned, identity, reference, timestamp
from mercato.tenancy.system_pool import SystemPool

MOST_OUTAGES = 3
FIRST_PAUSE_S, LONGEST_PAUSE_S = 15, 300
ROTATE_S = 1.0
"""So much later than the others a failed trial is due again: the next trial is another run."""


class Circuit(TenantOwned, table=True):
    """The outages in a row, since when and until when it is open, and the run that was tried last."""

    __tablename__ = "circuits"
    __table_args__ = (sa.UniqueConstraint("tenant_id", "integration"), {"schema": CORE_SCHEMA})

    id: int = identity()
    integration: str
    outages: int
    opened_at: datetime | None = timestamp(nullable=True)
    open_until: datetime | None = timestamp(nullable=True)
    pauses: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    trial_job_id: int | None = reference(nullable=True)


@dataclass(frozen=True, slots=True)
class Opened:
    """A circuit that is open, as it is shown."""

    tenant_id: int
    integration: str
    outages: int
    opened_at: datetime
    open_until: datetime


_PAUSE = f"least({FIRST_PAUSE_S} * 2 ^ circuits.pauses, {LONGEST_PAUSE_S}) * interval '1 second'"
_IS_OPENING = f"circuits.opened_at is null and circuits.outages + 1 >= {MOST_OUTAGES}"
_IS_AGAIN = "circuits.opened_at is not null and circuits.trial_job_id = $3"
_COUNT = f"""
    insert into mercato.circuits (tenant_id, integration, outages) values ($1, $2, 1)
    on conflict (tenant_id, integration) do update set
        outages = circuits.outages + 1,
        opened_at = case when {_IS_OPENING} then now() else circuits.opened_at end,
        open_until = case when {_IS_OPENING} or {_IS_AGAIN} then now() + {_PAUSE} else circuits.open_until end,
        pauses = circuits.pauses + case when {_IS_OPENING} or {_IS_AGAIN} then 1 else 0 end,
        trial_job_id = case when {_IS_AGAIN} then null else circuits.trial_job_id end
    returning extract(epoch from open_until - now())::float8
"""  # noqa: S608  # of parts that stand in this file


async def count_outage(pool: SystemPool, tenant_id: int, integration: str, job_id: int) -> float | None:
    """Count that a run met an outage; return in how many seconds to try again, or None where no circuit is open."""
    [row] = await pool.fetch(_COUNT, tenant_id, integration, job_id)
    wait_s: float | None = row[0]
    return None if wait_s is None else max(0.0, wait_s) + ROTATE_S


_CLOSE = """
    delete from mercato.circuits
    where tenant_id = $1 and integration = $2 and (opened_at is null or trial_job_id = $3)
    returning pg_notify('mercato_jobs', '')
"""


async def count_success(pool: SystemPool, tenant_id: int, integration: str, job_id: int) -> None:
    """Forget the outages. Of an open circuit the trial decides, and not a run that had begun before."""
    await pool.fetch(_CLOSE, tenant_id, integration, job_id)


_LOCK = "select opened_at is not null from mercato.circuits where tenant_id = $1 and integration = $2 for update"
_TRY = """
    update mercato.circuits set trial_job_id = $3
    where tenant_id = $1 and integration = $2 and open_until <= now()
        and not exists (select from mercato.jobs where jobs.id = trial_job_id and state = 'running')
    returning id
"""


@dataclass(frozen=True, slots=True)
class Admission:
    """Whether a run may be claimed, and whether there is a circuit that waits for its success."""

    may_run: bool
    is_watched: bool


async def admit(connection: Any, tenant_id: int, integration: str, job_id: int) -> Admission:
    """Say whether a run may be claimed in this transaction; where the circuit is open it may be the trial."""
    # Two statements: the second sees a trial that another worker claimed while this one waited for the row.
    rows = await connection.fetch(_LOCK, tenant_id, integration)
    is_open = bool(rows) and rows[0][0]
    may_run = not is_open or bool(await connection.fetch(_TRY, tenant_id, integration, job_id))
    return Admission(may_run, bool(rows))


_OPENED = """
    select tenant_id, integration, outages, opened_at, open_until from mercato.circuits
    where opened_at is not null order by opened_at, id
"""


async def read_own(db: TenantDatabase) -> dict[str, datetime]:
    """Return until when a tenant's circuits are open, by integration; what lies in the past waits for its trial."""
    statement = sa.select(col(Circuit.integration), col(Circuit.open_until)).where(col(Circuit.opened_at).is_not(None))
    return {row.integration: row.open_until for row in await db.rows(statement)}


async def read_opened(pool: SystemPool) -> Sequence[Opened]:
    """Return every circuit that is open, of all tenants, the oldest first."""
    return [Opened(*row) for row in await pool.fetch(_OPENED)]
