"""`mercato jobs`: what runs in the background, what has failed, and what is to be run again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mercato.server.cli import schedules, watching
from mercato.server.cli.session import AsJson, DataDir, read_settings, with_runtime
from mercato.server.cli.terminal import say_either, say_json, say_table, stop

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from mercato.server.runtime import Runtime
    from mercato.tenancy.job_runs import Run, Scope

app = typer.Typer(help="Show and steer what runs in the background.", no_args_is_help=True)

Tenant = Annotated[str | None, typer.Option("--tenant", help="Only runs of this tenant; else of all.")]
RunId = Annotated[int, typer.Argument(help="The number of the run.")]
_RETRIED = 5


@app.command("list")
def list_(
    tenant: Tenant = None,
    state: Annotated[str | None, typer.Option(help="queued, running, retrying, done, dead or cancelled.")] = None,
    job: Annotated[str | None, typer.Option(help="Only runs of this job, such as commerce.tell_of_low_stock.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many at most.")] = 25,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """List runs, the newest first."""
    from mercato.tenancy.job_runs import read_runs
    from mercato.tenancy.ledger import STATES

    wanted = [one for one in STATES if one == state]
    if state is not None and not wanted:
        stop(f"{state!r} is no state: choose one of {', '.join(STATES)}.")

    async def read(connection: AsyncConnection, scope: Scope) -> list[Run]:
        return await read_runs(connection, scope, states=wanted, name=job, limit=limit)

    runs = _act(tenant, data_dir, read)
    if as_json:
        say_json([_said(run) for run in runs])
        return
    cells = [
        [run.id, run.name, run.tenant_id or "", run.state, f"{run.attempt}/{run.attempts}", run.created_at, run.error]
        for run in runs
    ]
    say_table("Runs", ("run", "job", "tenant", "state", "attempt", "stored", "error"), cells)


@app.command("summary")
def summary(tenant: Tenant = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Count runs by job and state, and say since when the oldest of them has been due."""
    from mercato.tenancy.job_runs import read_figures

    figures = _act(tenant, data_dir, read_figures)
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

    async def read(connection: AsyncConnection, scope: Scope) -> Run:
        return await read_run(connection, scope, run_id)

    said = _said(_act(None, data_dir, read))
    if as_json:
        say_json(said)
    else:
        say_table(f"Run {run_id}", ("what", "is"), [[name, value] for name, value in said.items() if value is not None])


@app.command("cancel")
def cancel(run_id: RunId, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Cancel a run: at once where it waits, within seconds where it runs."""
    from mercato.tenancy import job_runs

    async def act(connection: AsyncConnection, scope: Scope) -> str:
        return await job_runs.cancel(connection, scope, run_id)

    state = _act(None, data_dir, act)
    text = f"Run {run_id} is cancelled." if state == "cancelled" else f"Run {run_id} was told to end."
    say_either(as_json, {"run": run_id, "state": state}, text)


@app.command("retry")
def retry(run_id: RunId, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Let a run that is dead or cancelled run again, with new attempts."""
    from mercato.tenancy import job_runs

    async def act(connection: AsyncConnection, scope: Scope) -> None:
        await job_runs.retry(connection, scope, run_id, _RETRIED)

    _act(None, data_dir, act)
    say_either(as_json, {"run": run_id, "state": "queued"}, f"Run {run_id} is queued again.")


@app.command("replay")
def replay(run_id: RunId, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Store a new run with the payload of one that has ended."""
    from mercato.tenancy import job_runs

    async def act(connection: AsyncConnection, scope: Scope) -> int:
        return await job_runs.replay(connection, scope, run_id)

    new_id = _act(None, data_dir, act)
    say_either(as_json, {"run": new_id, "replays": run_id}, f"Run {new_id} is queued: it replays {run_id}.")


app.command("schedules")(schedules.schedules)
app.command("pause")(schedules.pause)
app.command("resume")(schedules.resume)
app.command("watch")(watching.watch)


def _act(tenant: str | None, data_dir: Any, act: Callable[[AsyncConnection, Scope], Awaitable[Any]]) -> Any:
    """Do something as the system: of one tenant's runs, or of all."""

    async def work(runtime: Runtime) -> Any:
        from mercato.tenancy.job_runs import EVERYBODY, as_operator
        from mercato.tenancy.tenants import find_tenant

        scope: Scope = EVERYBODY if tenant is None else (await find_tenant(runtime.database, tenant)).id
        async with as_operator(runtime.database) as connection:
            return await act(connection, scope)

    return with_runtime(read_settings(data_dir), work)


def _said(run: Run) -> dict[str, Any]:
    from mercato.tenancy.audit import masked

    said = {name: getattr(run, name) for name in run.__dataclass_fields__ if name != "task_id"}
    return {**said, **{name: masked(getattr(run, name)) for name in ("payload", "result", "progress", "error")}}
