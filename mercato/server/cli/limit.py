"""`mercato limit`: how much a tenant may use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mercato.server.cli.session import AsJson, DataDir, TenantSlug, read_settings, with_runtime
from mercato.server.cli.terminal import say_either, say_json, say_table

if TYPE_CHECKING:
    from mercato.server.runtime import Runtime

app = typer.Typer(help="Show and set how much a tenant may use.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Which limit, as `mercato limit show` names it.")]


@app.command("show")
def show(tenant: TenantSlug, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Show a tenant's limits, and which of them were set for it."""

    async def work(runtime: Runtime) -> list[dict[str, object]]:
        from mercato.tenancy.limits import as_rows, read_own_limits
        from mercato.tenancy.tenants import find_tenant

        found = await find_tenant(runtime.database, tenant)
        async with runtime.database.tenant(found.id, read_only=True) as db:
            own = await read_own_limits(db)
        return as_rows(runtime.settings.limits.overridden(own), own)

    rows = with_runtime(read_settings(data_dir), work)
    if as_json:
        say_json(rows)
    else:
        cells = [[row["limit"], row["most"], row["per"], "this tenant" if row["own"] else "everybody"] for row in rows]
        say_table(f"Limits of {tenant}", ("limit", "most", "per", "set for"), cells)


@app.command("set")
def set_(
    name: Name,
    most: Annotated[int, typer.Argument(help="The most: calls a minute, or cents a day.")],
    tenant: TenantSlug,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Set one limit of a tenant; every process keeps it from its next call on."""

    async def work(runtime: Runtime) -> bool:
        from mercato.server.cli.acting import acting
        from mercato.tenancy.limits import read_own_limits, set_limit

        async with acting(runtime, tenant, "limit.set", {"limit": name, "most": most}) as act:
            own = await read_own_limits(act.db)
            await set_limit(runtime.database, act.tenant.id, name, most)
            act.effect["before"] = own.get(name)
            act.changed = own.get(name) != most
            return act.changed

    changed = with_runtime(read_settings(data_dir), work)
    said = {"limit": name, "most": most, "tenant": tenant, "changed": changed}
    say_either(as_json, said, f"The limit {name} of {tenant} is {most:,}.")


@app.command("reset")
def reset(
    tenant: TenantSlug,
    name: Annotated[str | None, typer.Argument(help="Which limit; all of them if none is named.")] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Let everybody's limit hold for a tenant again, or all of everybody's."""

    async def work(runtime: Runtime) -> dict[str, int]:
        from mercato.server.cli.acting import acting
        from mercato.tenancy.limits import NAMES, read_own_limits, reset_limits

        names = NAMES if name is None else (name,)
        async with acting(runtime, tenant, "limit.reset", {"limits": list(names)}) as act:
            own = await read_own_limits(act.db)
            await reset_limits(runtime.database, act.tenant.id, names)
            gone = {one: own[one] for one in names if one in own}
            act.effect["before"] = gone
            act.changed = bool(gone)
            return gone

    gone = with_runtime(read_settings(data_dir), work)
    said = ", ".join(gone) or "nothing, for nothing was set"
    say_either(as_json, {"tenant": tenant, "reset": list(gone)}, f"Reset for {tenant}: {said}.")
