"""`mercato jobs`: what runs in the background, what has failed, and what is to be run again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mercato.server.cli import schedules, watching
from mercato.server.cli.session import AsJson, DataDir, read_settings, with_runtime
from mercato.server.cli.terminal import say_either, say_json, say_table, stop

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from mercato.plugins.jobs import Job
    from mercato.server.runtime import Runtime
    from mercato.tenancy.job_runs import Figures, Run, Scope

app = typer.Typer(help="Show and steer what runs in the background.", no_args_is_help=True)

Tenant = Annotated[str | None, typer.Option("--tenant", help="Only runs of this tenant; else of all.")]
RunId = Annotated[int, typer.Argument(help="The number of the run.")]


@app.command("list")
def list_(
    tenant: Tenant = None,
    state: Annotated[
        str | None, typer.Option(help="queued, running, retrying, waiting (for an answer), done, dead or cancelled.")
    ] = None,
    job: Annotated[str | None, typer.Option(help="Only runs of this job, such as commerce.tell_of_low_stock.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many at most.")] = 25,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """List runs, the newest first."""
    from mercato.tenancy.job_runs import EVERYBODY, read_runs
    from mercato.tenancy.ledger import STATES

    wanted = [one for one in STATES if one == state]
    if state is not None and not wanted:
        stop(f"{state!r} is no state: choose one of {', '.join(STATES)}.")

    async def read(connection: AsyncConnection, scope: Scope, runtime: Runtime) -> list[tuple[Run, str | None]]:
        runs = await read_runs(connection, scope, states=wanted, name=job, limit=limit)
        if job is not None and not runs and not await read_runs(connection, EVERYBODY, name=job, limit=1):
            _refuse_unknown(job, _known(runtime))
        slugs = await _slugs(runtime)
        return [(run, slugs.get(run.tenant_id)) for run in runs]

    runs: list[tuple[Run, str | None]] = _act(tenant, data_dir, read)
    if as_json:
        say_json([_said(run, slug) for run, slug in runs])
        return
    cells = [
        [run.id, run.name, slug, run.state, f"{run.attempt}/{run.attempts}", run.created_at, run.error]
        for run, slug in runs
    ]
    say_table("Runs", ("run", "job", "tenant", "state", "attempt", "stored", "error"), cells)


@app.command("summary")
def summary(tenant: Tenant = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Count runs by job and state, and say since when the oldest of them has been due."""
    from mercato.tenancy.job_runs import read_figures

    async def read(connection: AsyncConnection, scope: Scope, _: Runtime) -> list[Figures]:
        return await read_figures(connection, scope)

    figures = _act(tenant, data_dir, read)
    if as_json:
        keys = ("job", "state", "runs", "oldest_due_at")
        say_json([dict(zip(keys, (one.name, one.state, one.runs, one.oldest_due_at), strict=True)) for one in figures])
    else:
        cells = [[one.name, one.state, one.runs, one.oldest_due_at] for one in figures]
        say_table("Jobs", ("job", "state", "runs", "oldest due since"), cells)


@app.command("show")
def show(run_id: RunId, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Show all that is known of one run."""
    from mercato.tenancy.job_runs import read_run

    async def read(connection: AsyncConnection, scope: Scope, runtime: Runtime) -> dict[str, Any]:
        run = await read_run(connection, scope, run_id)
        return _said(run, (await _slugs(runtime)).get(run.tenant_id))

    said = _act(None, data_dir, read)
    if as_json:
        say_json(said)
    else:
        say_table(f"Run {run_id}", ("what", "is"), [[name, value] for name, value in said.items() if value is not None])


@app.command("cancel")
def cancel(run_id: RunId, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Cancel a run: at once where it waits, within seconds where it runs."""
    from mercato.tenancy import job_runs

    async def act(connection: AsyncConnection, scope: Scope, _: Runtime) -> str:
        return await job_runs.cancel(connection, scope, run_id)

    state = _act(None, data_dir, act)
    text = f"Run {run_id} is cancelled." if state == "cancelled" else f"Run {run_id} was told to end."
    say_either(as_json, {"run": run_id, "state": state}, text)


@app.command("retry")
def retry(run_id: RunId, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Let a run that is dead or cancelled run again, with new attempts."""
    from mercato.tenancy import job_runs

    async def act(connection: AsyncConnection, scope: Scope, runtime: Runtime) -> None:
        run = await job_runs.read_run(connection, scope, run_id)
        await job_runs.retry(connection, scope, run_id, _attempts(runtime, run.name))

    _act(None, data_dir, act)
    say_either(as_json, {"run": run_id, "state": "queued"}, f"Run {run_id} is queued again.")


@app.command("replay")
def replay(run_id: RunId, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Store a new run with the payload of one that has ended."""
    from mercato.tenancy import job_runs

    async def act(connection: AsyncConnection, scope: Scope, runtime: Runtime) -> int:
        run = await job_runs.read_run(connection, scope, run_id)
        return await job_runs.replay(connection, scope, run_id, _attempts(runtime, run.name))

    new_id = _act(None, data_dir, act)
    say_either(as_json, {"run": new_id, "replays": run_id}, f"Run {new_id} is queued: it replays {run_id}.")


app.command("schedules")(schedules.schedules)
app.command("pause")(schedules.pause)
app.command("resume")(schedules.resume)
app.command("watch")(watching.watch)


def _act(tenant: str | None, data_dir: Any, act: Callable[[AsyncConnection, Scope, Runtime], Awaitable[Any]]) -> Any:
    """Do something as the system: of one tenant's runs, or of all."""

    async def work(runtime: Runtime) -> Any:
        from mercato.tenancy.job_runs import EVERYBODY, as_operator
        from mercato.tenancy.tenants import find_tenant

        scope: Scope = EVERYBODY if tenant is None else (await find_tenant(runtime.database, tenant)).id
        async with as_operator(runtime.database) as connection:
            return await act(connection, scope, runtime)

    return with_runtime(read_settings(data_dir), work)


def _known(runtime: Runtime) -> dict[str, Job[..., Any]]:
    from mercato.server.jobs.working import every_job

    return {job.name: job for job in every_job(runtime.plugins)}


def _attempts(runtime: Runtime, name: str) -> int:
    from mercato.plugins.jobs import Backoff

    known = _known(runtime)
    return (known[name].retries if name in known else Backoff()).attempts


def _refuse_unknown(name: str, known: Iterable[str]) -> None:
    known = sorted(known)
    if name not in known:
        near = get_close_matches(name, known, 1)
        hint = f"Did you mean {near[0]}?" if near else "`mercato jobs summary` lists those that have runs."
        stop(f"no plugin that is loaded declares a job {name!r}, and there are no runs of it. {hint}")


async def _slugs(runtime: Runtime) -> dict[int, str]:
    from mercato.tenancy.tenants import list_tenants

    return {tenant.id: tenant.slug for tenant in await list_tenants(runtime.database)}


def _said(run: Run, slug: str | None) -> dict[str, Any]:
    from mercato.tenancy.audit import masked

    said = {name: getattr(run, name) for name in run.__dataclass_fields__ if name != "task_id"}
    shown = {name: masked(getattr(run, name)) for name in ("payload", "result", "progress", "error")}
    return {**said, **shown, "tenant": slug}
