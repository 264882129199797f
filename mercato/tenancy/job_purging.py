"""Purging: what of the ledger goes with time, in lots that hold nobody up."""

from __future__ import annotations

from datetime import datetime

from mercato.tenancy.system_pool import SystemPool

_LOT = 1_000
_RUNS = f"""
    delete from mercato.jobs where id in (
        select id from mercato.jobs where state in ('done', 'dead', 'cancelled') and finished_at < $1
        order by finished_at limit {_LOT} for update skip locked
    ) returning id
"""  # noqa: S608
_TICKS = f"""
    delete from mercato.ticks where ctid in (select ctid from mercato.ticks where tick < $1 limit {_LOT}) returning tick
"""  # noqa: S608


async def purge_runs(pool: SystemPool, before: datetime) -> int:
    """Remove runs that ended before a time; return how many."""
    return await _until_none(pool, _RUNS, before)


async def purge_ticks(pool: SystemPool, before: datetime) -> int:
    """Remove ticks from before a time; return how many."""
    return await _until_none(pool, _TICKS, before)


async def _until_none(pool: SystemPool, sql: str, before: datetime) -> int:
    total = 0
    while removed := len(await pool.fetch(sql, before)):
        total += removed
    return total
