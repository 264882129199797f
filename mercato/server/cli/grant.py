"""`mercato grant`: what people have allowed OAuth clients."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mercato.server.cli.session import AsJson, DataDir, TenantSlug, read_settings, with_runtime
from mercato.server.cli.terminal import say_either, say_json, say_table

if TYPE_CHECKING:
    from mercato.server.runtime import Runtime

app = typer.Typer(help="List and revoke what people have allowed OAuth clients.", no_args_is_help=True)


@app.command("list")
def list_(tenant: TenantSlug, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """List the clients connected to a tenant: whose they are, what they may do, and when they last did."""
    columns = ("id", "who", "client_name", "redirect_host", "scopes", "created_at", "last_used_at")

    async def work(runtime: Runtime) -> list[dict[str, Any]]:
        from mercato.tenancy.client_grants import list_grants
        from mercato.tenancy.tenants import find_tenant

        found = await find_tenant(runtime.database, tenant)
        async with runtime.database.tenant(found.id, read_only=True) as db:
            return [asdict(grant) for grant in await list_grants(db)]

    grants = with_runtime(read_settings(data_dir), work)
    if as_json:
        say_json(grants)
    else:
        shown = [[" ".join(one[name]) if name == "scopes" else one[name] for name in columns] for one in grants]
        say_table(f"Clients connected to {tenant}", columns, shown)


@app.command("revoke")
def revoke(
    grant_id: Annotated[int, typer.Argument(help="Its id, as `mercato grant list` shows it.")],
    tenant: TenantSlug,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """End what a client was allowed: it is refused at its next call, on every replica."""

    async def work(runtime: Runtime) -> None:
        from mercato.server.cli.acting import acting
        from mercato.tenancy.client_grants import revoke_grant

        async with acting(runtime, tenant, "client.revoke", {"grant": grant_id}) as act:
            row = await revoke_grant(act.db, grant_id)
            act.effect["client_id"] = row.client_id

    with_runtime(read_settings(data_dir), work)
    say_either(as_json, {"id": grant_id, "revoked": True}, f"Grant {grant_id} is revoked.")
