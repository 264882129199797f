"""`mercato user`: the people of a tenant."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from mercato.server.cli.session import AsJson, DataDir, TenantSlug, read_settings, with_runtime
from mercato.server.cli.terminal import say_either, say_json, say_table

if TYPE_CHECKING:
    from mercato.server.runtime import Runtime

app = typer.Typer(
    help="The people of a tenant: invite, add, remove, list; their passwords and browsers.", no_args_is_help=True
)


@app.command("add")
def add(
    email: Annotated[str, typer.Argument(help="Their e-mail address.")],
    tenant: TenantSlug,
    role: Annotated[str, typer.Option(help="owner, admin, manager, member or viewer.")] = "member",
    name: Annotated[str, typer.Option(help="Their name.")] = "",
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Make somebody a member, or give a member another role."""

    async def work(runtime: Runtime) -> str | None:
        from mercato.server.changes import Change
        from mercato.server.cli.inviting import link_for
        from mercato.tenancy import audit
        from mercato.tenancy.memberships import Role, add_member, check_role
        from mercato.tenancy.onboarding import local_principal
        from mercato.tenancy.tenants import find_tenant

        found = await find_tenant(runtime.database, tenant)
        checked = check_role(role)
        principal = None if checked is Role.OWNER else await local_principal(runtime.database, found)
        await add_member(runtime.database, found.id, email, name or email.partition("@")[0], checked)
        principal = principal or await local_principal(runtime.database, found)
        async with runtime.database.tenant(found.id) as db:
            audit.record(db, principal, "user.add", {"email": email, "role": role}, {})
        await runtime.changes.publish(Change("access", found.id))
        return await link_for(runtime, found, email, checked)

    link = with_runtime(read_settings(data_dir), work)
    said = {"email": email, "role": role, "tenant": tenant, **({"invitation_url": link} if link else {})}
    text = f"{email} is {role} of {tenant}."
    say_either(
        as_json, said, f"{text} They choose a password here, once, within seven days:\n  {link}" if link else text
    )


@app.command("invite")
def invite(
    email: Annotated[str, typer.Argument(help="Their e-mail address.")],
    tenant: TenantSlug,
    role: Annotated[str, typer.Option(help="owner, admin, manager, member or viewer.")] = "member",
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Make a link with which somebody joins, once, within seven days: with their account, or with a new one."""

    async def work(runtime: Runtime) -> str:
        from mercato.server.cli.inviting import invite_link
        from mercato.tenancy.memberships import check_role
        from mercato.tenancy.tenants import find_tenant

        return await invite_link(runtime, await find_tenant(runtime.database, tenant), email, check_role(role))

    link = with_runtime(read_settings(data_dir), work)
    said = {"email": email, "role": role, "tenant": tenant, "invitation_url": link}
    say_either(as_json, said, f"{email} joins {tenant} as {role} here, once, within seven days:\n  {link}")


@app.command("password")
def password(
    email: Annotated[str, typer.Argument(help="Their e-mail address.")],
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Give somebody a password, asked for here or read from standard input; every browser of theirs is signed out."""
    chosen = _ask_password()

    async def work(runtime: Runtime) -> None:
        from mercato.tenancy.accounts import find_account, set_password
        from mercato.tenancy.sessions import end_sessions

        account = await find_account(runtime.database, email)
        await set_password(runtime.database, runtime.passwords, account.user_id, chosen)
        await end_sessions(runtime.database, account.user_id)

    with_runtime(read_settings(data_dir), work)
    say_either(as_json, {"email": email, "password_set": True}, f"{email} has a new password.")


@app.command("sign-out")
def sign_out(
    email: Annotated[str, typer.Argument(help="Their e-mail address.")],
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Sign somebody out of every browser. Connected clients and keys stay: `mercato grant` and `key` end those."""

    async def work(runtime: Runtime) -> int:
        from mercato.tenancy.accounts import find_account
        from mercato.tenancy.sessions import end_sessions

        account = await find_account(runtime.database, email)
        return await end_sessions(runtime.database, account.user_id)

    ended = with_runtime(read_settings(data_dir), work)
    said = {"email": email, "sessions_ended": ended}
    say_either(as_json, said, f"{email} was signed in {ended} times, and is not any more.")


@app.command("remove")
def remove(
    email: Annotated[str, typer.Argument(help="Their e-mail address.")],
    tenant: TenantSlug,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """End somebody's membership: their keys are refused at the next call, on every replica."""

    async def work(runtime: Runtime) -> None:
        from mercato.server.cli.acting import acting
        from mercato.tenancy.memberships import find_member
        from mercato.tenancy.removal import remove_member

        async with acting(runtime, tenant, "user.remove", {"email": email}) as act:
            member = await find_member(runtime.database, act.tenant, email)
            await remove_member(act.db, member.id)

    with_runtime(read_settings(data_dir), work)
    say_either(as_json, {"email": email, "tenant": tenant, "removed": True}, f"{email} is no member of {tenant}.")


@app.command("list")
def list_(tenant: TenantSlug, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """List the people of a tenant."""

    async def work(runtime: Runtime) -> list[dict[str, object]]:
        from mercato.tenancy.memberships import list_members
        from mercato.tenancy.tenants import find_tenant

        found = await find_tenant(runtime.database, tenant)
        return await list_members(runtime.database, found.id)

    members = with_runtime(read_settings(data_dir), work)
    columns = ("id", "email", "name", "role")
    if as_json:
        say_json(members)
    else:
        say_table(f"People of {tenant}", columns, [[member[column] for column in columns] for member in members])


def _ask_password() -> str:
    if sys.stdin.isatty():
        answer: str = typer.prompt("New password", hide_input=True, confirmation_prompt=True, err=True)
        return answer
    return sys.stdin.readline().rstrip("\n")
