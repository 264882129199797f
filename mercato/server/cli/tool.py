"""`mercato tool`: what a tenant has switched on."""

from __future__ import annotations

from typing import Annotated

import typer

from mercato.server.cli.session import AsJson, DataDir, TenantSlug
from mercato.server.cli.switches import list_switches, switch

app = typer.Typer(help="Switch single tools on and off for a tenant.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Its name.")]


@app.command("enable")
def enable(name: Name, tenant: TenantSlug, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Switch it on; assistants see it at their next list and call."""
    switch("tool", name, tenant, on=True, data_dir=data_dir, as_json=as_json)


@app.command("disable")
def disable(name: Name, tenant: TenantSlug, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Switch it off; who calls it is told who can switch it on again."""
    switch("tool", name, tenant, on=False, data_dir=data_dir, as_json=as_json)


@app.command("list")
def list_(tenant: TenantSlug, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """List the tools there are, and which of them are on."""
    list_switches("tool", tenant, data_dir=data_dir, as_json=as_json)
