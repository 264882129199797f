"""Alerts: what somebody should know of. One row for each cause, from when it is first seen until it is gone.

Whoever looks says all causes that there are in an area: those that are new are raised, those that were known are
counted, and those that are gone are resolved. So looking twice changes nothing but a count. Whatever has to be told is
a notice: a run of a job, stored in the same transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlmodel import Field, col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from mercato.tenancy.database import Database
from mercato.tenancy.errors import InvalidValue, NotFound
from mercato.tenancy.ledger import NewJob, enqueue_for_deployment
from mercato.tenancy.rows import CORE_SCHEMA, TenantOwned, identity, timestamp
from mercato.tenancy.tenants import TenantRecord

Severity = Literal["warning", "critical"]
Word = Literal["raised", "repeated", "resolved"]
Notice = Callable[[int, Word, int], NewJob]
"""Makes the run that tells of an alert: its id, what is to be told, and the number of the notice."""
GONE = "its cause is gone"
_REPEATED_AT_ONCE = 100


class Alert(TenantOwned, table=True):
    """One alert, of a tenant or (tenant 0) the deployment. `key` is `<area>.<cause>`; `notices` counts what was told.

    Of one key there is one that is not resolved.
    """

    __tablename__ = "alerts"
    __table_args__ = (
        sa.CheckConstraint("severity in ('warning', 'critical')", name="severity"),
        sa.Index("uq_alerts_key", "tenant_id", "key", unique=True, postgresql_where=sa.text("resolved_at is null")),
        sa.Index(None, "tenant_id", "id"),
        {"schema": CORE_SCHEMA},
    )

    id: int = identity()
    key: str
    severity: str
    text: str
    occurrences: int = Field(default=1, sa_column_kwargs={"server_default": "1"})
    notices: int = Field(default=1, sa_column_kwargs={"server_default": "1"})
    first_at: datetime = timestamp(now=True)
    last_at: datetime = timestamp(now=True)
    noticed_at: datetime = timestamp(now=True)
    resolved_at: datetime | None = timestamp(nullable=True)
    resolved_by: str | None = None


@dataclass(frozen=True, slots=True)
class Cause:
    """Something that is wrong now. `text` is a sentence, and says what to do where that is known."""

    key: str
    severity: Severity
    text: str
    tenant_id: int = 0


@dataclass(frozen=True, slots=True)
class Shown:
    """An alert as it is shown. `tenant` is a slug; None for the deployment's own."""

    id: int
    tenant: str | None
    key: str
    severity: Severity
    text: str
    occurrences: int
    notices: int
    first_at: datetime
    last_at: datetime
    resolved_at: datetime | None
    resolved_by: str | None


@dataclass(frozen=True, slots=True)
class Observed:
    """How many alerts were raised, and how many resolved."""

    raised: int
    resolved: int


async def observe(database: Database, area: str, causes: Sequence[Cause], notice: Notice) -> Observed:
    """Take down all causes that there are now in an area. Raises `ValueError` for one of another area."""
    if any(not cause.key.startswith(f"{area}.") for cause in causes):
        raise ValueError(f"the key of each cause must begin with `{area}.`")
    async with database.system() as session:
        raised = sum([await _raise(session, cause, notice) for cause in causes])
        present = [(cause.tenant_id, cause.key) for cause in causes]
        return Observed(raised, await _resolve_others(session, area, present, notice))


async def _raise(session: AsyncSession, cause: Cause, notice: Notice) -> bool:
    """Raise an alert, or count it. It is told of where it is new, and once more where it has become critical."""
    connection = await session.connection()
    values = {"tenant_id": cause.tenant_id, "key": cause.key, "severity": cause.severity, "text": cause.text}
    stored = (await connection.execute(_STORE.values(values))).scalar_one_or_none()
    if stored is not None:
        await enqueue_for_deployment(connection, notice(stored, "raised", 1))
        return True
    known = (await connection.execute(_known(cause))).first()
    if known is None:  # it was resolved between the two
        return False
    is_worse = known.severity == "warning" and cause.severity == "critical"
    counted = (
        sa.update(Alert)
        .where(col(Alert.id) == known.id)
        .values(
            occurrences=col(Alert.occurrences) + 1,
            last_at=sa.func.now(),
            severity=cause.severity,
            text=cause.text,
            **({"notices": col(Alert.notices) + 1, "noticed_at": sa.func.now()} if is_worse else {}),
        )
    )
    await connection.execute(counted)
    if is_worse:
        await enqueue_for_deployment(connection, notice(known.id, "repeated", known.notices + 1))
    return False


_IS_OPEN = col(Alert.resolved_at).is_(None)
_STORE = (
    postgresql.insert(Alert)
    .on_conflict_do_nothing(index_elements=["tenant_id", "key"], index_where=_IS_OPEN)
    .returning(col(Alert.id))
)


def _known(cause: Cause) -> sa.Select[int, str, int]:
    columns = sa.select(col(Alert.id), col(Alert.severity), col(Alert.notices))
    this = (col(Alert.tenant_id) == cause.tenant_id, col(Alert.key) == cause.key)
    return columns.where(*this, _IS_OPEN).with_for_update()


async def _resolve_others(session: AsyncSession, area: str, present: Sequence[tuple[int, str]], notice: Notice) -> int:
    of_area = col(Alert.key).startswith(f"{area}.", autoescape=True)
    gone = sa.tuple_(col(Alert.tenant_id), col(Alert.key)).not_in(present) if present else sa.true()
    return len(await _resolve(session, sa.and_(of_area, gone), GONE, notice))


async def _resolve(session: AsyncSession, which: sa.ColumnElement[bool], by: str, notice: Notice) -> Sequence[int]:
    connection = await session.connection()
    ended = (
        sa.update(Alert)
        .where(which, _IS_OPEN)
        .values(resolved_at=sa.func.now(), resolved_by=by, notices=col(Alert.notices) + 1, noticed_at=sa.func.now())
        .returning(col(Alert.id), col(Alert.notices))
    )
    rows = (await connection.execute(ended)).all()
    for alert_id, number in rows:
        await enqueue_for_deployment(connection, notice(alert_id, "resolved", number))
    return [row[0] for row in rows]


async def resolve(database: Database, alert_id: int, by: str, notice: Notice) -> None:
    """Resolve an alert by hand. It is raised anew where its cause is still there. Raises `NotFound`, `InvalidValue`."""
    async with database.system() as session:
        if await _resolve(session, col(Alert.id) == alert_id, by, notice):
            return
    shown = await read_alert(database, alert_id)
    raise InvalidValue(f"Alert {alert_id} is resolved already: {shown.resolved_by}.")


async def repeat(database: Database, after: timedelta, notice: Notice) -> int:
    """Tell again of critical alerts that nobody has resolved since they were last told of; return how many."""
    async with database.system() as session:
        connection = await session.connection()
        due = (_IS_OPEN, col(Alert.severity) == "critical", col(Alert.noticed_at) <= sa.func.now() - after)
        chosen = sa.select(col(Alert.id)).where(*due).order_by(col(Alert.id)).limit(_REPEATED_AT_ONCE)
        again = (
            sa.update(Alert)
            .where(col(Alert.id).in_(chosen.with_for_update(skip_locked=True)))
            .values(notices=col(Alert.notices) + 1, noticed_at=sa.func.now())
            .returning(col(Alert.id), col(Alert.notices))
        )
        rows = (await connection.execute(again)).all()
        for alert_id, number in rows:
            await enqueue_for_deployment(connection, notice(alert_id, "repeated", number))
        return len(rows)


async def read_alert(database: Database, alert_id: int) -> Shown:
    """Return one alert. Raises `NotFound`."""
    async with database.system() as session:
        found = (await (await session.connection()).execute(_SHOWN.where(col(Alert.id) == alert_id))).first()
    if found is None:
        raise NotFound(f"There is no alert {alert_id}. `mercato alerts list --all` shows those there are.")
    return Shown(*found)


async def read_alerts(database: Database, *, resolved: bool = False, limit: int = 100) -> Sequence[Shown]:
    """Return the alerts of the deployment and of all tenants, the newest first; with `resolved` those too."""
    statement = (_SHOWN if resolved else _SHOWN.where(_IS_OPEN)).order_by(col(Alert.id).desc()).limit(limit)
    async with database.system() as session:
        return [Shown(*row) for row in await (await session.connection()).execute(statement)]


_SHOWN = sa.select(
    col(Alert.id), col(TenantRecord.slug), *(col(getattr(Alert, name)) for name in list(Shown.__slots__)[2:])
).select_from(sa.outerjoin(Alert, TenantRecord, col(TenantRecord.id) == col(Alert.tenant_id)))


async def purge_alerts(database: Database, before: datetime) -> int:
    """Remove alerts that were resolved before a time; return how many."""
    async with database.system() as session:
        return (await session.exec(sa.delete(Alert).where(col(Alert.resolved_at) < before))).rowcount


async def count_alerts(database: Database) -> dict[str, int]:
    """Return how many are not resolved, by severity."""
    async with database.system() as session:
        counted = select(col(Alert.severity), sa.func.count()).where(_IS_OPEN).group_by(col(Alert.severity))
        return {row[0]: row[1] for row in await session.exec(counted)}
