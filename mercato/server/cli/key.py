"""`mercato key`: API keys."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mercato.server.cli.session import AsJson, DataDir, TenantSlug, read_settings, with_runtime
from mercato.server.cli.terminal import say, say_either, say_json, say_table

if TYPE_CHECKING:
    from mercato.server.runtime import Runtime

app = typer.Typer(help="Create, list and revoke API keys.", no_args_is_help=True)


@app.command("create")
def create(
    tenant: TenantSlug,
    name: Annotated[str, typer.Option(help="What it is for, to tell keys apart.")] = "key",
    scope: Annotated[
        list[str] | None,
        typer.Option(help="tools:read, tools:write or a category; repeat for several. Without any: every scope."),
    ] = None,
    user: Annotated[str | None, typer.Option(help="The member it belongs to, by e-mail; else the owner.")] = None,
    expires_in_days: Annotated[int, typer.Option(min=1, max=3650, help="How long it is good.")] = 90,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Create a key, and show it this once: only a hash of it is kept."""

    async def work(runtime: Runtime) -> dict[str, Any]:
        from mercato.server.cli.acting import acting
        from mercato.tenancy.keys import EVERY_SCOPE, check_scopes, create_key
        from mercato.tenancy.memberships import find_member
        from mercato.tenancy.onboarding import find_owner
        from mercato.tenancy.rows import utc_now

        scopes = check_scopes(scope or [EVERY_SCOPE], runtime.catalog.categories)
        expires_at = utc_now() + timedelta(days=expires_in_days)
        async with acting(runtime, tenant, "key.create", {"name": name, "scopes": scopes}) as act:
            member = await (
                find_member(runtime.database, act.tenant, user) if user else find_owner(runtime.database, act.tenant)
            )
            row, key = await create_key(act.db, member, name, scopes, expires_at)
            act.effect["id"] = row.id
        return {"id": row.id, "key": key, "scopes": scopes, "expires_at": expires_at}

    made = with_runtime(read_settings(data_dir), work)
    if as_json:
        say_json(made)
        return
    say(f"Key {made['id']} for {tenant}, good until {made['expires_at']:%Y-%m-%d}. It is not shown again:")
    say(f"  {made['key']}")


@app.command("list")
def list_(tenant: TenantSlug, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """List a tenant's keys; never the keys themselves."""
    columns = ("id", "name", "shown", "scopes", "created_at", "expires_at", "last_used_at", "revoked_at")

    async def work(runtime: Runtime) -> list[dict[str, Any]]:
        from mercato.tenancy.keys import list_keys
        from mercato.tenancy.tenants import find_tenant

        found = await find_tenant(runtime.database, tenant)
        async with runtime.database.tenant(found.id) as db:
            return [{column: getattr(key, column) for column in columns} for key in await list_keys(db)]

    keys = with_runtime(read_settings(data_dir), work)
    if as_json:
        say_json(keys)
    else:
        rows = [[" ".join(key[column]) if column == "scopes" else key[column] for column in columns] for key in keys]
        say_table(f"Keys of {tenant}", columns, rows)


@app.command("revoke")
def revoke(
    key_id: Annotated[int, typer.Argument(help="Its id, as `mercato key list` shows it.")],
    tenant: TenantSlug,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Revoke a key: it is refused at the next call, on every replica."""

    async def work(runtime: Runtime) -> None:
        from mercato.server.cli.acting import acting
        from mercato.tenancy.keys import revoke_key

        async with acting(runtime, tenant, "key.revoke", {"id": key_id}) as act:
            await revoke_key(act.db, key_id)

    with_runtime(read_settings(data_dir), work)
    say_either(as_json, {"id": key_id, "revoked": True}, f"Key {key_id} is revoked.")
