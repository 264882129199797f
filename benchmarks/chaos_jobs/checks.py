"""The checks: what must hold once everything that was asked for has run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence, Set

from mercato_chaos.jobs import Effect
from sqlmodel import select

from benchmarks.chaos.deployment import Shop
from benchmarks.chaos.verdict import Check, at_least, at_most, exactly
from benchmarks.chaos_jobs.crew import Crew
from benchmarks.chaos_jobs.outages import Outages
from benchmarks.chaos_jobs.producer import Producer
from benchmarks.chaos_jobs.wake import Wake
from mercato.tenancy.database import Database
from mercato.tenancy.system_pool import SystemPool

LONGEST_RESTART_S = 15
_STATES = "select state, count(*) from mercato.jobs where name like 'chaos.%' group by state"
_DONE = "select id from mercato.jobs where state = 'done' and name like 'chaos.%' and tenant_id = $1"


async def effect_checks(database: Database, shops: Sequence[Shop], producers: Sequence[Producer]) -> list[Check]:
    """Hold what each tenant has against what was asked for."""
    checks: list[Check] = []
    for shop in shops:
        ours = [producer.expected for producer in producers if producer.access.tenant.id == shop.id]
        async with database.tenant(shop.id, read_only=True) as db:
            effects = await db.rows(select(Effect.number, Effect.run_id))
        done = {row[0] for row in await database.pool.fetch(_DONE, shop.id)}
        checks += _effect_checks(shop.slug, [(row[0], row[1]) for row in effects], set().union(*ours), done)
    return checks


def _effect_checks(
    slug: str, effects: Sequence[tuple[int, int]], expected: Set[int], done: Set[int]
) -> Iterator[Check]:
    counted, runs = Counter(number for number, _ in effects), {run_id for _, run_id in effects}
    yield exactly(f"{slug}: effects", len(effects), len(expected))
    yield exactly(f"{slug}: effects that are missing", len(expected - counted.keys()), 0)
    yield exactly(f"{slug}: effects that are there twice", sum(found > 1 for found in counted.values()), 0)
    yield exactly(f"{slug}: effects that nobody asked for", len(counted.keys() - expected), 0)
    yield exactly(f"{slug}: effects without a run that is done", len(runs - done), 0)
    yield exactly(f"{slug}: runs that are done without an effect", len(done - runs), 0)


async def ledger_checks(pool: SystemPool, expected: int) -> list[Check]:
    """Look at the states in which all runs are."""
    states = {state: int(found) for state, found in await pool.fetch(_STATES)}
    done, dead = states.pop("done", 0), states.pop("dead", 0)
    return [
        exactly("runs that are done", done, expected),
        exactly("runs that are dead", dead, 0),
        exactly("runs that are stuck", sum(states.values()), 0),
    ]


def crew_checks(crew: Crew, wake: Wake, outages: Outages) -> Iterator[Check]:
    """Yield how the workers fared, and who went on for those that were killed."""
    yield at_least("workers that were killed", crew.killed, 3)
    yield exactly("workers that ended by themselves", crew.crashed, 0)
    yield exactly("outages: " + ", ".join(outages.made), len(outages.made), len(outages.all))
    yield at_least("runs that were lost with a worker", len(wake.restarts_s), 1)
    yield exactly("of them, never begun again", len(wake.waiting), 0)
    slowest = max(wake.restarts_s, default=0.0)
    yield at_most("seconds until the slowest of them had begun again", round(slowest), LONGEST_RESTART_S)
