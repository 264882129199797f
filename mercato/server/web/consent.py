"""The consent page: a person decides what a client may do, in which of their tenants."""

from __future__ import annotations

from typing import Any

from starlette.responses import RedirectResponse, Response

from mercato.plugins.category import Category
from mercato.server.oauth.authorize import AuthorizationRefused, AuthorizationRequest, read_request
from mercato.server.oauth.clients import how_known, warning_for
from mercato.server.oauth.redirects import form_action, host_of, place_of
from mercato.server.oauth.scopes import granted
from mercato.server.web.page import Refusal, SignInNeeded, Visit, page, query_of
from mercato.tenancy import audit
from mercato.tenancy.clients import touch_client
from mercato.tenancy.codes import AuthorizationCode, issue_code
from mercato.tenancy.memberships import Belonging


@page
async def authorize_page(visit: Visit) -> Response:
    """Ask the person. Who is not signed in does so first, but only for a request that can be granted at all."""
    try:
        asked = await _asked(visit)
    except AuthorizationRefused as refused:
        return _leave(refused.location)
    await touch_client(visit.runtime.database, asked.client)
    chosen = visit.request.query_params.get("tenant", "")
    belonging = (visit.belonging_to(chosen) if chosen else None) or visit.belonging
    return await _ask(visit, asked, belonging)


@page
async def authorize(visit: Visit) -> Response:
    """Take the decision, and lead back to the client."""
    try:
        asked = await _asked(visit)
    except AuthorizationRefused as refused:
        return _leave(refused.location)
    if visit.value("decision") != "allow":
        return _leave(asked.answer(error="access_denied", error_description="The person said no."))
    belonging = visit.belonging_to(visit.value("tenant"))
    if belonging is None:
        raise Refusal("No such business", "You belong to no such business here.", 403)
    open_to_it = {category.name for category in await _categories(visit, asked, belonging)}
    ticked = sorted(set(visit.values("category")) & open_to_it)
    if not ticked:
        errors = {"category": "Tick at least one, or deny."}
        return await _ask(visit, asked, belonging, errors=errors)
    write = visit.value("write") == "yes" and _why_no_writing(asked, belonging) is None
    return _leave(asked.answer(code=await _allow(visit, asked, belonging, granted(ticked, write=write))))


async def _asked(visit: Visit) -> AuthorizationRequest:
    """Return the request, and only then ask who is there. Raises `AuthorizationRefused` and `SignInNeeded`."""
    asked = await read_request(visit.runtime.oauth, visit.request.url.query)
    if visit.person is None:
        raise SignInNeeded
    return asked


async def _allow(visit: Visit, asked: AuthorizationRequest, belonging: Belonging, scopes: list[str]) -> str:
    """Note what was allowed; return the code under which the client fetches it."""
    given = {"client_id": asked.client.client_id, "client": asked.client.name, "resource": asked.resource}
    async with visit.runtime.database.tenant(belonging.tenant.id) as db:
        request_id = visit.request.state.request_id
        principal = visit.principal(belonging)
        audit.record(db, principal, "client.allow", given, {"scopes": scopes}, request_id=request_id)
    code = AuthorizationCode(
        tenant_id=belonging.tenant.id,
        membership_id=belonging.membership_id,
        client_id=asked.client.client_id,
        client_name=asked.client.name,
        redirect_uri=asked.redirect_uri,
        redirect_host=host_of(asked.redirect_uri),
        challenge=asked.challenge,
        scopes=scopes,
        resource=asked.resource,
    )
    return await issue_code(visit.runtime.database, code)


async def _ask(
    visit: Visit, asked: AuthorizationRequest, belonging: Belonging, *, errors: dict[str, str] | None = None
) -> Response:
    categories = await _categories(visit, asked, belonging)
    why_not = _why_no_writing(asked, belonging)
    again = errors is not None
    query = [(name, value) for name, value in query_of(visit.request) if name != "tenant"]
    return visit.page(
        "consent.html",
        f"Allow {asked.client.name}",
        status=400 if again else 200,
        form_action=form_action(asked.redirect_uri),
        client=_shown(asked),
        choice=_choice(visit, belonging),
        categories=[
            {
                "name": category.name,
                "title": category.title,
                "description": category.description,
                "tools": sum(not asked.reach.read_only or tool.read_only for tool in category.tools),
                "ticked": not again and (not asked.wanted.categories or category.name in asked.wanted.categories),
            }
            for category in categories
        ],
        write={
            "offered": why_not is None,
            "ticked": visit.value("write") == "yes" if again else asked.wanted.write,
            "why_not": why_not,
        },
        here="/authorize",
        query=query,
        action=f"/authorize?{visit.request.url.query}",
        errors=errors or {},
    )


def _shown(asked: AuthorizationRequest) -> dict[str, Any]:
    return {
        "name": asked.client.name,
        "host": place_of(asked.redirect_uri),
        "redirect_uri": asked.redirect_uri,
        "home": asked.client.home,
        "id": asked.client.client_id,
        "how": how_known(asked.client),
        "warning": warning_for(asked.client, asked.redirect_uri),
    }


def _choice(visit: Visit, belonging: Belonging) -> dict[str, Any]:
    def shown(one: Belonging) -> dict[str, Any]:
        return {"id": one.tenant.id, "name": one.tenant.name, "role": str(one.role), "selected": one is belonging}

    return {"tenant": shown(belonging), "tenants": [shown(one) for one in visit.belongings]}


async def _categories(visit: Visit, asked: AuthorizationRequest, belonging: Belonging) -> list[Category]:
    """Return what the tenant has on, within the address that the client wants."""
    access = await visit.runtime.directory.access(belonging.tenant.id)
    found = visit.runtime.catalog.categories
    names = sorted(access.categories & set(found)) if access is not None else []
    return [found[name] for name in names if asked.reach.holds(name)]


def _why_no_writing(asked: AuthorizationRequest, belonging: Belonging) -> str | None:
    if not belonging.role.writes:
        return f"Your role here ({belonging.role}) does not change anything."
    if asked.reach.read_only:
        return "It asked for an address that only reads."
    return None


def _leave(location: str) -> Response:
    """Lead to the client. 303, so that the form is not sent there too (RFC 9700, 4.12)."""
    headers = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
    return RedirectResponse(location, status_code=303, headers=headers)
