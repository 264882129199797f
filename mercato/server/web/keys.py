"""API keys: for programs that cannot sign in."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from starlette.responses import Response

from mercato.server.changes import Change
from mercato.server.web.page import Visit, page
from mercato.tenancy import audit
from mercato.tenancy.accounts import shown_text
from mercato.tenancy.keys import EVERY_SCOPE, KeyOfMember, create_key, list_keys_of, revoke_key
from mercato.tenancy.memberships import read_membership
from mercato.tenancy.principal import READ, WRITE
from mercato.tenancy.rows import utc_now

LASTS = {"30": 30, "90": 90, "365": 365, "0": None}
_LONGEST_NAME = 100


@page
async def keys_page(visit: Visit) -> Response:
    """List keys: one's own, and for owners and admins everybody's."""
    return await _list(visit)


@page
async def make_key(visit: Visit) -> Response:
    """Make a key of one's own, and show it this once."""
    belonging = visit.belonging
    name, days = shown_text(visit.value("name"))[:_LONGEST_NAME], visit.value("days")
    categories = visit.values("category")
    unknown = [category for category in categories if category not in visit.runtime.catalog.categories]
    errors = {} if name else {"name": "Say what uses it."}
    errors |= {} if days in LASTS else {"days": "Choose how long it lasts."}
    errors |= {"category": f"There is no category {unknown[0]}."} if unknown else {}
    if errors:
        return await _list(visit, status=400, errors=errors)
    scopes = _scopes(categories, write=visit.value("write") == "yes" and belonging.role.writes)
    lasts = LASTS[days]
    expires_at = None if lasts is None else utc_now() + timedelta(days=lasts)
    async with visit.runtime.database.tenant(belonging.tenant.id) as db:
        member = await read_membership(db, belonging.membership_id)
        row, key = await create_key(db, member, name, scopes, expires_at)
        given, request_id = {"name": name, "scopes": scopes}, visit.request.state.request_id
        audit.record(db, visit.principal(belonging), "key.create", given, {"id": row.id}, request_id=request_id)
    return await _list(visit, new_key=key)


@page
async def revoke_one(visit: Visit) -> Response:
    """Revoke a key: it is refused at its next call, everywhere."""
    belonging, key_id = visit.belonging, visit.id("key_id")
    async with visit.runtime.database.tenant(belonging.tenant.id) as db:
        mine_only = None if belonging.role.administers else belonging.membership_id
        row = await revoke_key(db, key_id, membership_id=mine_only)
        request_id = visit.request.state.request_id
        principal = visit.principal(belonging)
        audit.record(db, principal, "key.revoke", {"id": key_id}, {"name": row.name}, request_id=request_id)
    await visit.runtime.changes.publish(Change("access", belonging.tenant.id))
    return await _list(visit, notice=f"The key {row.name} is revoked.")


async def _list(
    visit: Visit,
    *,
    status: int = 200,
    errors: dict[str, str] | None = None,
    notice: str | None = None,
    new_key: str | None = None,
) -> Response:
    belonging = visit.belonging
    mine_only = None if belonging.role.administers else belonging.membership_id
    async with visit.runtime.database.tenant(belonging.tenant.id, read_only=True) as db:
        keys = await list_keys_of(db, membership_id=mine_only)
    access = await visit.runtime.directory.access(belonging.tenant.id)
    on = access.categories if access is not None else frozenset()
    categories = [visit.runtime.catalog.categories[name] for name in sorted(on & set(visit.runtime.catalog.categories))]
    return visit.page(
        "keys.html",
        "API keys",
        page="keys",
        status=status,
        notice=notice,
        new_key=new_key,
        keys=[_shown(visit, key) for key in keys],
        categories=[{"name": category.name, "title": category.title} for category in categories],
        may_write=belonging.role.writes,
        errors=errors or {},
        values=_typed(visit) if errors else {},
    )


def _typed(visit: Visit) -> dict[str, Any]:
    plain = {name: visit.value(name) for name in ("name", "days", "write")}
    return plain | {"category": visit.values("category")}


def _scopes(categories: list[str], *, write: bool) -> list[str]:
    """Return what a key of these ticks has. Everything at once has a scope of its own, for what comes later too."""
    if not categories and write:
        return [EVERY_SCOPE]
    return [READ, *([WRITE] if write else []), *sorted(set(categories))]


def _shown(visit: Visit, key: KeyOfMember) -> dict[str, Any]:
    categories = visit.runtime.catalog.categories
    titles = [
        categories[scope].title if scope in categories else scope
        for scope in key.scopes
        if scope not in {EVERY_SCOPE, READ, WRITE}
    ]
    expired = key.expires_at is not None and key.expires_at <= utc_now()
    return {
        "id": key.id,
        "name": key.name,
        "shown": key.shown,
        "who": key.who,
        "mine": key.user_id == visit.signed_in.user_id,
        "may": ", ".join(titles) or "Every category",
        "writes": bool({EVERY_SCOPE, WRITE} & set(key.scopes)),
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "last_used_at": key.last_used_at,
        "state": "revoked" if key.revoked_at is not None else "expired" if expired else "good",
    }
