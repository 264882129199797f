"""Usage: one record for each call of a tool, kept in a partition for each month."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from operator import itemgetter
from typing import NamedTuple

import orjson
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlmodel import Field

from mercato.tenancy.database import Database
from mercato.tenancy.rows import CORE_SCHEMA, TenantOwned, reference, timestamp

BYTES_PER_TOKEN = 3.9
"""Of JSON: an estimate that needs no tokenizer, a little above what GPT-4o's encoding takes."""
OK, REPLAYED = "ok", "replayed"
"""Outcomes besides the codes of errors. What a limit refuses was never admitted, and leaves no record."""
DAY_S = 86_400
_ESTIMATED = f"estimated: one for each {BYTES_PER_TOKEN} bytes"


class UsageRecord(TenantOwned, table=True):
    """One call: who, through whom, which tool, what became of it, how long it took, and what it cost.

    `request_tokens` and `answer_tokens` are estimates: one for each 3.9 bytes. `id` tells apart what came at the same
    microsecond: it is given by the process that writes, so that a batch which is written twice is stored once.
    """

    __tablename__ = "usage"
    __table_args__ = (
        sa.PrimaryKeyConstraint("tenant_id", "at", "id"),
        {"schema": CORE_SCHEMA, "postgresql_partition_by": "RANGE (at)"},
    )

    at: datetime = timestamp()
    id: int = reference()
    user_id: int | None = reference(nullable=True)
    kind: str
    credential_id: int | None = reference(nullable=True)
    client_id: str | None = None
    session_id: str | None = None
    request_id: str
    tool: str
    category: str
    outcome: str
    duration_us: int = reference()
    request_bytes: int
    answer_bytes: int
    request_tokens: int = Field(sa_column_kwargs={"comment": _ESTIMATED})
    answer_tokens: int = Field(sa_column_kwargs={"comment": _ESTIMATED})
    cost_cents: int


class Used(NamedTuple):
    """A call that has ended, as it is noted while others run: a tuple, because it must cost next to nothing.

    `at` is the time of its admission, in seconds since 1970, so that it falls on the day it was counted on. `outcome`
    is `ok`, `replayed`, `cancelled` or the code of an error.
    """

    at: float
    tenant_id: int
    user_id: int | None
    kind: str
    credential_id: int | None
    client_id: str | None
    session_id: str | None
    request_id: str
    tool: str
    category: str
    outcome: str
    duration_us: int
    request_bytes: int
    answer_bytes: int
    cost_cents: int = 0


_AT = itemgetter(0)


class UsageWriter:
    """Writes batches of records; a month gets its partition before its first record."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._months: frozenset[date] = frozenset()

    async def write(self, first_id: int, batch: Sequence[Used]) -> None:
        """Write a batch whose records are numbered from `first_id` on; what is stored already is left as it is.

        Raises `TypeError` for values that no JSON can hold.
        """
        values = {"batch": orjson.dumps(batch, default=tuple).decode(), "first_id": first_id}
        months = months_of(map(_AT, batch))
        try:
            async with self._database.system() as session:
                connection = await session.connection()
                for month in sorted(months - self._months):
                    await connection.execute(_MAKE_PARTITION, {"month": month})
                await connection.execute(_INSERT, values)
        except DBAPIError:
            self._months = frozenset()  # a month that was known may have been dropped
            raise
        self._months |= months


def months_of(times: Iterable[float]) -> frozenset[date]:
    """Return the first days of the months, in UTC, from the first of these times to the last."""
    ordered = sorted(times)
    first, last = day_of(ordered[0]).replace(day=1), day_of(ordered[-1]).replace(day=1)
    numbers = range(first.year * 12 + first.month - 1, last.year * 12 + last.month)
    return frozenset(date(number // 12, number % 12 + 1, 1) for number in numbers)


def day_of(time_s: float) -> date:
    """Return the day in UTC."""
    return datetime.fromtimestamp(int(time_s), UTC).date()


_BIG = ("tenant_id", "user_id", "credential_id", "duration_us")
_INTEGERS = ("request_bytes", "answer_bytes", "cost_cents")
_KINDS = dict.fromkeys(_BIG, "bigint") | dict.fromkeys(_INTEGERS, "int")
_VALUES = [f"(used ->> {place})::{_KINDS.get(name, 'text')}" for place, name in enumerate(Used._fields) if place]
_TOKENS = [
    f"ceil((used ->> {Used._fields.index(name)})::int / {BYTES_PER_TOKEN})"
    for name in ("request_bytes", "answer_bytes")
]
# One text for a whole batch costs this process a tenth of what an array for each column does, and the database half;
# COPY is refused under row-level security. Times are cut, not rounded: the last moment of a day must stay on it.
_INSERT = sa.text(
    f"insert into mercato.usage (id, at, {', '.join(Used._fields[1:])}, request_tokens, answer_tokens)"  # noqa: S608
    " select :first_id + number - 1,"
    " timestamptz 'epoch' + floor((used ->> 0)::float8 * 1000000) * interval '1 microsecond',"
    f" {', '.join(_VALUES + _TOKENS)}"
    " from jsonb_array_elements(cast(cast(:batch as text) as jsonb)) with ordinality as batch (used, number)"
    " on conflict do nothing"
)
_MAKE_PARTITION = sa.text("select mercato.make_usage_partition(:month)")
