"""First set-up: the operator, who can read what the server printed, becomes the first person to sign in."""

from __future__ import annotations

import hmac
import re
import secrets
import unicodedata

from starlette.responses import Response

from mercato.server.changes import Change
from mercato.server.runtime import Runtime
from mercato.server.web.page import Refusal, Visit, page
from mercato.server.web.sign_in import HOME, signed_in
from mercato.tenancy import accounts
from mercato.tenancy.accounts import first_account, nobody_can_sign_in
from mercato.tenancy.errors import InvalidValue
from mercato.tenancy.memberships import Role, add_member
from mercato.tenancy.onboarding import onboard_tenant
from mercato.tenancy.passwords import check_password
from mercato.tenancy.secrets import KeyRing
from mercato.tenancy.signing import Signer
from mercato.tenancy.tenants import list_tenants

NEW = "new"


async def setup_address(runtime: Runtime) -> str | None:
    """Return the address of the first set-up; None once anybody can sign in: it is good for one account, the first.

    Its token follows from the deployment's keys, so that every replica and every start prints the same.
    """
    if not await nobody_can_sign_in(runtime.database):
        return None
    return runtime.site.url(f"/setup?token={_token(runtime.ring)}")


def _token(ring: KeyRing) -> str:
    return Signer(ring, "first set-up").sign(b"")


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
    database, email = visit.runtime.database, visit.value("email")
    name = accounts.clean_name(visit.value("name"))
    user_id = await first_account(database, visit.runtime.passwords, email, name, visit.value("password"))
    if user_id is None:
        raise _used()
    if visit.value("business") == NEW:
        await _open_business(visit, email)
    else:
        tenant = tenants[visit.value("business")]
        await add_member(database, tenant.id, email, name, Role.OWNER)
        await visit.runtime.changes.publish(Change("access", tenant.id))
    return await signed_in(visit, user_id, HOME)


async def _open_business(visit: Visit, email: str) -> None:
    runtime, name = visit.runtime, " ".join(visit.value("business_name").split())
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
    if visit.value("business") == NEW and not visit.value("business_name").strip():
        errors["business_name"] = "Say what the business is called."
    return errors


async def _check(visit: Visit, token: str) -> None:
    if not hmac.compare_digest(token.encode(), _token(visit.runtime.ring).encode()):
        text = "This link is not complete. The server prints it when it starts."
        raise Refusal("This link cannot be used", text, 404)
    if not await nobody_can_sign_in(visit.runtime.database):
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
