"""`mercato jobs watch`: what waits and runs, while one looks."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mercato.server.cli.session import AsJson, DataDir, read_settings, with_runtime
from mercato.server.cli.terminal import say_json, say_table, table_of

if TYPE_CHECKING:
    from mercato.server.runtime import Runtime
    from mercato.tenancy.job_backlog import Backlog

_WITHIN_S = 60
_COLUMNS = ("job", "waiting", "due", "oldest due", "running", "asking", "done /min", "dead /min", "cancelled /min")


@dataclass(frozen=True, slots=True)
class View:
    """What is seen at one time. Ended are those of the last minute, by job and state."""

    at: datetime
    backlog: list[Backlog]
    ended: dict[tuple[str, str], int]
    workers: dict[str, int]


def watch(
    tenant: Annotated[str | None, typer.Option("--tenant", help="Only runs of this tenant; else of all.")] = None,
    every: Annotated[float, typer.Option(min=0.5, help="How many seconds between two looks.")] = 2,
    once: Annotated[bool, typer.Option("--once", help="Look once, as where nobody watches.")] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Watch what waits and runs, by job, with what ended in the last minute and who works, until Ctrl-C.

    Those that are `asking` wait for a person's answer (state `waiting`).

    Where stdout is no terminal, or with --json, it looks once. `summary` counts what has ended long ago, too.
    """
    title = "Jobs" if tenant is None else f"Jobs of {tenant}"

    async def work(runtime: Runtime) -> View | None:
        from rich.console import Console

        tenant_id = await _tenant_id(runtime, tenant)
        if once or as_json or not Console().is_terminal:
            return await _look(runtime, tenant_id)
        await _watch(runtime, tenant_id, title, every)
        return None

    with suppress(KeyboardInterrupt):
        view = with_runtime(read_settings(data_dir), work)
        if view is not None and as_json:
            say_json(_said(view))
        elif view is not None:
            say_table(title, _COLUMNS, _rows(view), _caption(view))


async def _tenant_id(runtime: Runtime, tenant: str | None) -> int | None:
    from mercato.tenancy.tenants import find_tenant

    return None if tenant is None else (await find_tenant(runtime.database, tenant)).id


async def _watch(runtime: Runtime, tenant_id: int | None, title: str, every_s: float) -> None:
    """Show it again and again; while the database is away, what was seen last."""
    import asyncpg
    from rich.live import Live

    view = await _look(runtime, tenant_id)
    with Live(table_of(title, _COLUMNS, _rows(view), _caption(view)), auto_refresh=False) as live:
        while True:
            await asyncio.sleep(every_s)
            away = ""
            try:
                view = await _look(runtime, tenant_id)
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
                away = "The database does not answer. "
            live.update(table_of(title, _COLUMNS, _rows(view), away + _caption(view)), refresh=True)


async def _look(runtime: Runtime, tenant_id: int | None) -> View:
    from mercato.tenancy.job_backlog import count_ended, read_backlog, read_busy
    from mercato.tenancy.rows import utc_now

    pool = runtime.database.pool
    backlog = await read_backlog(pool, tenant_id)
    ended = await count_ended(pool, _WITHIN_S, tenant_id)
    return View(utc_now(), backlog, ended, await read_busy(pool, tenant_id))


def _rows(view: View) -> list[list[Any]]:
    waiting = {one.name: one for one in view.backlog}
    rows = []
    for name in sorted({*waiting, *(job for job, _ in view.ended)}):
        one = waiting.get(name)
        left = [0, 0, "", 0, 0] if one is None else [one.waiting, one.due, _seconds(one), one.running, one.asking]
        rows.append([name, *left, *(view.ended.get((name, state), 0) for state in ("done", "dead", "cancelled"))])
    return rows


def _seconds(one: Backlog) -> str:
    return f"{one.oldest_due_s:.0f} s" if one.due else ""


def _caption(view: View) -> str:
    running = sum(one.running for one in view.backlog)
    at = ", ".join(f"{worker} ({runs})" for worker, runs in view.workers.items())
    done = sum(runs for (_, state), runs in view.ended.items() if state == "done")
    where = f", at {at}" if at else ""
    return f"{view.at:%H:%M:%S} UTC: {done / _WITHIN_S:.1f} done a second in the last minute; {running} running{where}."


def _said(view: View) -> dict[str, Any]:
    ended = [{"job": job, "state": state, "runs": runs} for (job, state), runs in sorted(view.ended.items())]
    backlog = [
        {"job" if name == "name" else name: value for name, value in asdict(one).items()} for one in view.backlog
    ]
    return {"at": view.at, "jobs": backlog, "ended_last_minute": ended, "workers": view.workers}
