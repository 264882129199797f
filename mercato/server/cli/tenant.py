"""`mercato tenant`: tenants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mercato.server.cli.session import AsJson, DataDir, read_settings, with_runtime
from mercato.server.cli.terminal import say, say_json, say_table

if TYPE_CHECKING:
    from mercato.server.runtime import Runtime
    from mercato.tenancy.tenants import Tenant

app = typer.Typer(help="Create and list tenants.", no_args_is_help=True)


@app.command("create")
def create(
    slug: Annotated[str, typer.Argument(help="Its short name: lower-case letters, digits, hyphens.")],
    name: Annotated[str, typer.Option(help="Its name, as people read it.")],
    owner: Annotated[str, typer.Option(help="The e-mail address of its owner.")],
    currency: Annotated[str, typer.Option(help="ISO 4217 code.")] = "USD",
    timezone: Annotated[str, typer.Option(help="IANA time zone.")] = "UTC",
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Create a tenant, with its owner and the built-in categories on."""

    async def work(runtime: Runtime) -> tuple[Tenant, str | None]:
        from mercato.server.cli.inviting import link_for
        from mercato.tenancy.memberships import Role
        from mercato.tenancy.onboarding import onboard_tenant

        built_in = [plugin for plugin in runtime.catalog.plugins if plugin.built_in]
        categories = [category.name for plugin in built_in for category in plugin.categories]
        made = await onboard_tenant(
            runtime.database,
            slug,
            name,
            owner_email=owner,
            categories=categories,
            currency=currency,
            timezone=timezone,
        )
        return made, await link_for(runtime, made, owner, Role.OWNER)

    tenant, link = with_runtime(read_settings(data_dir), work)
    if as_json:
        invitation = {"invitation_url": link} if link else {}
        say_json({"id": tenant.id, "slug": tenant.slug, "name": tenant.name, **invitation})
        return
    say(f"Created {tenant.slug}. Make a key with `mercato key create --tenant {tenant.slug} --name laptop`.")
    if link:
        say(f"{owner} chooses a password here, once, within seven days:")
        say(f"  {link}")


@app.command("list")
def list_(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """List tenants."""

    async def work(runtime: Runtime) -> list[Tenant]:
        from mercato.tenancy.tenants import list_tenants

        return await list_tenants(runtime.database)

    tenants = with_runtime(read_settings(data_dir), work)
    columns = ("id", "slug", "name", "currency", "timezone")
    if as_json:
        say_json([{column: getattr(tenant, column) for column in columns} for tenant in tenants])
    else:
        say_table("Tenants", columns, [[getattr(tenant, column) for column in columns] for tenant in tenants])
