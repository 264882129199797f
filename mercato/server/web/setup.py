"""First set-up: the operator, who can read what the server printed, becomes the first person to sign in."""

from __future__ import annotations

import hmac
import re
import secrets
import unicodedata
from collections.abc import Mapping

from starlette.responses import Response

from mercato.server.changes import Change
from mercato.server.runtime import Runtime
from mercato.server.web.page import Refusal, Visit, page
from mercato.server.web.sign_in import HOME, signed_in
from mercato.tenancy import accounts
from mercato.tenancy.errors import InvalidValue
from mercato.tenancy.memberships import Role, add_member
from mercato.tenancy.onboarding import first_set_up, no_owner_can_sign_in, onboard_tenant, people_who_signed_in
from mercato.tenancy.passwords import check_password
from mercato.tenancy.signing import Signer
from mercato.tenancy.tenants import Tenant, list_tenants

NEW = "new"
_PURPOSE = "first set-up"


async def setup_address(runtime: Runtime) -> str | None:
    """Return the address of the first set-up; None once an owner can sign in: it is good for one, the first.

    Its token follows from the deployment's keys and from how many people have signed in so far: every replica and
    every start prints the same, and one that was used never comes back.
    """
    if not await no_owner_can_sign_in(runtime.database):
        return None
    return runtime.site.url(f"/setup?token={await _token(runtime)}")


async def _token(runtime: Runtime) -> str:
    people = await people_who_signed_in(runtime.database)
    return Signer(runtime.ring, _PURPOSE).sign(people.to_bytes(8))


@page
async def setup_page(visit: Visit) -> Response:
    """Show the form to whoever has the token."""
    token = visit.request.query_params.get("token", "")
    await _check(visit, token)
    return await _show(visit, token)


@page
async def setup(visit: Visit) -> Response:
    """Make the first account, the owner of a tenant that is there or of a new one."""
    token = visit.value("token")
    await _check(visit, token)
    errors = _faults(visit)
    tenants = {str(tenant.id): tenant for tenant in await list_tenants(visit.runtime.database)}
    if visit.value("business") not in {NEW, *tenants}:
        errors["business"] = "Choose a business."
    if errors:
        return await _show(visit, token, errors=errors)
    async with first_set_up(visit.runtime.database) as awaited:
        if not awaited:
            await _check(visit, token)
            raise Refusal("One moment, please", "Somebody is setting mercato up right now. Load the page again.", 409)
        try:
            user_id = await _first_person(visit)
        except InvalidValue as error:
            return await _show(visit, token, errors={"password": str(error)})
        await _make_owner(visit, tenants)
    return await signed_in(visit, user_id, HOME)


async def _first_person(visit: Visit) -> int:
    """Return the account; the same again where an attempt before ended half way."""
    email, name = visit.value("email"), accounts.clean_name(visit.value("name"))
    runtime = visit.runtime
    return await accounts.first_account(runtime.database, runtime.passwords, email, name, visit.value("password"))


async def _make_owner(visit: Visit, tenants: Mapping[str, Tenant]) -> None:
    if visit.value("business") == NEW:
        await _open_business(visit, visit.value("email"))
        return
    tenant, name = tenants[visit.value("business")], accounts.clean_name(visit.value("name"))
    await add_member(visit.runtime.database, tenant.id, visit.value("email"), name, Role.OWNER)
    await visit.runtime.changes.publish(Change("access", tenant.id))


async def _open_business(visit: Visit, email: str) -> None:
    runtime, name = visit.runtime, accounts.clean_name(visit.value("business_name"))
    built_in = [plugin for plugin in runtime.catalog.plugins if plugin.built_in]
    categories = [category.name for plugin in built_in for category in plugin.categories]
    await onboard_tenant(runtime.database, _slug(name), name, owner_email=email, categories=categories)


def _slug(name: str) -> str:
    """Return a short name of its own, made of a name."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    words = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:40].strip("-")
    return f"{words or 'business'}-{secrets.token_hex(2)}"


def _faults(visit: Visit) -> dict[str, str]:
    """Return what is wrong with the fields, each by its own name."""
    errors: dict[str, str] = {}
    for field, check in (
        ("name", accounts.clean_name),
        ("email", accounts.clean_email),
        ("password", check_password),
    ):
        try:
            check(visit.value(field))
        except InvalidValue as error:
            errors[field] = str(error)
    if visit.value("business") == NEW:
        try:
            accounts.clean_name(visit.value("business_name"))
        except InvalidValue:
            errors["business_name"] = "Say what the business is called."
    return errors


async def _check(visit: Visit, token: str) -> None:
    if Signer(visit.runtime.ring, _PURPOSE).verify(token) is None:
        text = "This link is not complete. The server prints it when it starts."
        raise Refusal("This link cannot be used", text, 404)
    used = not hmac.compare_digest(token.encode(), (await _token(visit.runtime)).encode())
    if used or not await no_owner_can_sign_in(visit.runtime.database):
        raise _used()


def _used() -> Refusal:
    text = "mercato is set up already. Sign in, or ask an owner of your business for an invitation."
    return Refusal("This link has been used", text, 410)


async def _show(visit: Visit, token: str, *, errors: dict[str, str] | None = None) -> Response:
    tenants = await list_tenants(visit.runtime.database)
    names = ("name", "email", "business", "business_name")
    typed = {name: visit.value(name) for name in names if visit.value(name)}
    return visit.page(
        "setup.html",
        "Set up",
        status=400 if errors else 200,
        token=token,
        businesses=[{"id": tenant.id, "name": tenant.name} for tenant in tenants],
        errors=errors or {},
        values=typed,
    )
