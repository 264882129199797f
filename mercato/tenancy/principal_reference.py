"""Principals by reference: what is stored of who asked for something that is done later, when it is looked up again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from mercato.tenancy.client_grants import authenticate_grant
from mercato.tenancy.database import Database
from mercato.tenancy.keys import find_key
from mercato.tenancy.memberships import Role, memberships_of
from mercato.tenancy.principal import Principal


def reference_of(principal: Principal) -> dict[str, Any]:
    """Return what is stored, as JSON. It proves nothing: only `find_principal` says what it is worth now."""
    said = asdict(principal)
    return said | {
        "scopes": sorted(principal.scopes),
        "categories": None if principal.categories is None else sorted(principal.categories),
        "expires_at": None,
    }


async def find_principal(database: Database, reference: Mapping[str, Any]) -> Principal | None:
    """Return who that is, with the rights that they have now; None where the key, the grant or the membership ended.

    An access token need not be good still, as long as the grant that it was made for stands.
    """
    said = Principal(
        **{
            **reference,
            "role": Role(reference["role"]),
            "scopes": frozenset(reference["scopes"]),
            "categories": None if reference["categories"] is None else frozenset(reference["categories"]),
        }
    )
    if said.kind == "key" and said.credential_id is not None:
        return _of(said, await find_key(database, said.credential_id))
    if said.kind == "token" and said.grant_id is not None:
        return _of(said, await authenticate_grant(database, said.grant_id, said.scopes, None))
    return await _member(database, said)


def _of(said: Principal, found: Principal | None) -> Principal | None:
    return found if found is not None and found.tenant_id == said.tenant_id else None


async def _member(database: Database, said: Principal) -> Principal | None:
    """Return somebody who was at a browser or a terminal, as the member that they are now."""
    if said.user_id is None:
        return None
    belongings = await memberships_of(database, said.user_id)
    here = next((one for one in belongings if one.tenant.id == said.tenant_id), None)
    return None if here is None else replace(said, role=here.role)
