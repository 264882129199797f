"""`mercato alerts`: what somebody should know of, and that somebody does."""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from mercato.server.cli.session import AsJson, DataDir, read_settings, with_runtime
from mercato.server.cli.terminal import say_either, say_json, say_table

if TYPE_CHECKING:
    from mercato.server.runtime import Runtime
    from mercato.tenancy.alerts import Shown

app = typer.Typer(help="Show alerts, and resolve them.", no_args_is_help=True)


@app.command("list")
def list_(
    every: Annotated[bool, typer.Option("--all", help="Also those that are resolved.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="How many at most.")] = 100,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """List alerts, the newest first."""

    async def work(runtime: Runtime) -> Sequence[Shown]:
        from mercato.tenancy.alerts import read_alerts

        return await read_alerts(runtime.database, resolved=every, limit=limit)

    found = [asdict(alert) for alert in with_runtime(read_settings(data_dir), work)]
    if as_json:
        say_json(found)
    else:
        columns = ("id", "severity", "tenant", "text", "occurrences", "first_at", "last_at", "resolved_at")
        heads = ("alert", "severity", "tenant", "text", "seen", "first", "last", "resolved")
        say_table("Alerts", heads, [[alert[name] for name in columns] for alert in found])


@app.command("resolve")
def resolve(
    alert_id: Annotated[int, typer.Argument(help="The number of the alert.")],
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Resolve an alert: it is told of no more. Where its cause is still there, a new one is raised."""
    by = _person()

    async def work(runtime: Runtime) -> None:
        from mercato.server.jobs.core.alerting import notice
        from mercato.tenancy import alerts

        await alerts.resolve(runtime.database, alert_id, by, notice)

    with_runtime(read_settings(data_dir), work)
    said = {"alert": alert_id, "resolved_by": by}
    say_either(as_json, said, f"Alert {alert_id} is resolved. If its cause is still there, it comes back as a new one.")


def _person() -> str:
    try:
        return f"{getpass.getuser()} at the terminal"
    except (KeyError, OSError, ImportError):  # a user without a name, as in some containers
        return "somebody at the terminal"
