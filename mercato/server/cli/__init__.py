"""The command `mercato`. Every command is a thin shell over functions that are tested without it."""

from __future__ import annotations

import typer

from mercato.server.cli import (
    alerts,
    audit,
    category,
    circuits,
    client,
    doctor,
    grant,
    importing,
    jobs,
    key,
    limit,
    migrate,
    plugin,
    serve,
    stdio,
    tenant,
    tool,
    usage,
    user,
    worker,
)

app = typer.Typer(
    name="mercato",
    help="mercato: an MCP server for commerce. Assistants act for one tenant at a time, through plugins.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command("serve")(serve.serve)
app.command("stdio")(stdio.stdio)
app.command("worker")(worker.worker)
app.command("migrate")(migrate.migrate)
app.command("import", context_settings=importing.CONTEXT)(importing.import_)
app.command("usage")(usage.usage)
app.command("circuits")(circuits.circuits)
app.add_typer(tenant.app, name="tenant")
app.add_typer(user.app, name="user")
app.add_typer(key.app, name="key")
app.add_typer(client.app, name="client")
app.add_typer(grant.app, name="grant")
app.add_typer(category.app, name="category")
app.add_typer(tool.app, name="tool")
app.add_typer(limit.app, name="limit")
app.add_typer(audit.app, name="audit")
app.add_typer(alerts.app, name="alerts")
app.add_typer(jobs.app, name="jobs")
app.add_typer(plugin.app, name="plugin")
app.add_typer(doctor.app, name="doctor")


def main() -> None:
    """Run the command line."""
    app()
