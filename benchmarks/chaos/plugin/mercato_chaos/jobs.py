"""The jobs of the test of chaos: each leaves one effect with its number, by one of the ways that a run can take.

They dawdle on both sides of what they write, so that a kill meets each often enough.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

from mercato import Backoff, Job, JobContext, Retry, TenantOwned, identity, job

CHILDREN_FROM = 1_000_000
"""The number of a child is its parent's and this."""
_SOON = Backoff(attempts=6, base_s=0.5, cap_s=2)
_DAWDLE_S = 0.06


class Effect(TenantOwned, table=True):
    """What one run has left."""

    __tablename__ = "effects"
    __table_args__ = {"schema": "chaos"}

    id: int = identity()
    number: int
    run_id: int


class Lot(TenantOwned, table=True):
    """What was asked for in one transaction, so that who asked knows if that was committed."""

    __tablename__ = "lots"
    __table_args__ = {"schema": "chaos"}

    id: int = identity()
    first: int


class Stumbled(Exception):
    """A job failed, as it was to."""


@job("chaos.count", retries=_SOON)
async def count(ctx: JobContext, number: int) -> dict[str, int]:
    """Leave an effect."""
    await _leave(ctx, number)
    return {"number": number}


@job("chaos.stumble", retries=_SOON)
async def stumble(ctx: JobContext, number: int) -> None:
    """Leave an effect, and fail at the first attempt."""
    await _leave(ctx, number)
    if ctx.attempt == 1:
        raise Stumbled


@job("chaos.wait", retries=_SOON)
async def wait(ctx: JobContext, number: int) -> None:
    """Leave an effect, and ask for another time at the first attempt."""
    await _leave(ctx, number)
    if ctx.attempt == 1:
        raise Retry(1)


@job("chaos.beget", retries=_SOON)
async def beget(ctx: JobContext, number: int) -> None:
    """Leave an effect, and ask for a run that leaves another."""
    await count.enqueue(ctx, number=number + CHILDREN_FROM)
    await _leave(ctx, number)


@job("chaos.alone", retries=_SOON, tenant_concurrency=3)
async def alone(ctx: JobContext, number: int) -> None:
    """Leave an effect, with two others beside it at most."""
    await _leave(ctx, number)


async def _leave(ctx: JobContext, number: int) -> None:
    await _dawdle()
    ctx.db.session.add(Effect(number=number, run_id=ctx.run_id))
    await ctx.db.session.flush()
    await _dawdle()


async def _dawdle() -> None:
    await asyncio.sleep(random.uniform(0, _DAWDLE_S))


JOBS: list[Job[..., Any]] = [count, stumble, wait, beget, alone]
