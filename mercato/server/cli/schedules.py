"""What runs by the clock: listed, paused, and let go on; commands of `mercato jobs`."""

from __future__ import annotations

from datetime import datetime
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated, Any
from zoneinfo import ZoneInfo

import typer

from mercato.server.cli.session import AsJson, DataDir, read_settings, with_runtime
from mercato.server.cli.terminal import say_either, say_json, say_table, stop

if TYPE_CHECKING:
    from mercato.plugins.jobs import Job
    from mercato.plugins.schedules import Schedule
    from mercato.server.runtime import Runtime

JobName = Annotated[str, typer.Argument(help="The job, as `mercato jobs schedules` names it.")]
OneTenant = Annotated[str | None, typer.Option("--tenant", help="For this tenant alone; else for all.")]


def schedules(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """List what runs by the clock, when next, and for whom it is paused."""

    async def work(runtime: Runtime) -> list[dict[str, Any]]:
        from mercato.tenancy.ticks import Paused, read_paused

        paused = await read_paused(runtime.database.pool)
        return [
            {
                "job": job.name,
                "cron": job.schedule.cron,
                "clock": "each tenant's" if job.each_tenant else "UTC",
                "next": await _next(runtime, job, job.schedule),
                "catch_up": job.schedule.catch_up,
                "paused": paused.get(job.name, Paused()).for_all,
                "paused_for": paused.get(job.name, Paused()).tenants,
            }
            for job in _clocked(runtime).values()
            if job.schedule is not None
        ]

    rows = with_runtime(read_settings(data_dir), work)
    if as_json:
        say_json(rows)
        return
    columns = ("job", "cron", "clock", "next", "catch_up")
    paused = ["for all" if row["paused"] else ", ".join(row["paused_for"]) for row in rows]
    cells = [[*(row[name] for name in columns), whom] for row, whom in zip(rows, paused, strict=True)]
    say_table("Schedules", (*columns, "paused"), cells)


async def _next(runtime: Runtime, job: Job[..., Any], schedule: Schedule) -> datetime | None:
    """Return when it runs next: where each tenant's clock counts, the earliest of them."""
    from mercato.tenancy.rows import utc_now
    from mercato.tenancy.ticks import read_clocks

    now = utc_now()
    if not job.each_tenant:
        return schedule.next(now)
    clocks = await read_clocks(runtime.database.pool, job.name, requires=job.requires, categories=job.categories)
    ticks = [schedule.next(now, ZoneInfo(zone)) for zone in {clock.timezone for clock in clocks}]
    return min((tick for tick in ticks if tick is not None), default=None)


def pause(job: JobName, tenant: OneTenant = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Pause a schedule: runs that are stored already still run. What is missed is made up for by its catch-up rule."""
    _set(job, tenant, data_dir, paused=True, as_json=as_json)


def resume(job: JobName, tenant: OneTenant = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Let a schedule go on that is paused. What was paused for all goes on for all, and the same for one tenant."""
    _set(job, tenant, data_dir, paused=False, as_json=as_json)


def _set(name: str, tenant: str | None, data_dir: Any, *, paused: bool, as_json: bool) -> None:
    async def work(runtime: Runtime) -> tuple[bool, bool]:
        from mercato.tenancy.ticks import Paused, read_paused

        job = _find(runtime, name)
        if tenant is not None and not job.each_tenant:
            stop(f"{name} runs once for everybody: leave --tenant out.")
        changed = await _store(runtime, name, tenant, paused=paused)
        return changed, (await read_paused(runtime.database.pool)).get(name, Paused()).for_all

    changed, for_all = with_runtime(read_settings(data_dir), work)
    whom = "all" if tenant is None else tenant
    state = (
        ("is paused" if paused else "goes on") if changed else ("was paused already" if paused else "was not paused")
    )
    still = " It is paused for all, though." if for_all and tenant is not None and not paused else ""
    said = {"job": name, "tenant": tenant, "paused": paused, "changed": changed, "paused_for_all": for_all}
    say_either(as_json, said, f"{name} {state} for {whom}.{still}")


async def _store(runtime: Runtime, name: str, tenant: str | None, *, paused: bool) -> bool:
    """Store it; a change for one tenant has its entry in that tenant's audit."""
    from mercato.server.cli.acting import acting
    from mercato.tenancy import ticks

    if tenant is None:
        return await ticks.pause(runtime.database.pool, name, 0, paused=paused)
    action = "jobs.pause" if paused else "jobs.resume"
    async with acting(runtime, tenant, action, {"job": name}) as act:
        act.changed = await ticks.pause(runtime.database.pool, name, act.tenant.id, paused=paused)
        act.effect["paused"] = paused
    return act.changed


def _find(runtime: Runtime, name: str) -> Job[..., Any]:
    known = _clocked(runtime)
    if name not in known:
        near = get_close_matches(name, sorted(known), 1)
        hint = f"Did you mean {near[0]}?" if near else "`mercato jobs schedules` lists them."
        stop(f"no job {name!r} runs by the clock. {hint}")
    return known[name]


def _clocked(runtime: Runtime) -> dict[str, Job[..., Any]]:
    from mercato.server.jobs.working import every_job

    return {job.name: job for job in every_job(runtime.plugins) if job.schedule is not None}
