"""Whether credentials are good: what cannot be unsealed, and what ends soon, for each tenant.

The texts go to chats and mail, which may read markup, so they hold nothing that people of a tenant wrote: connections
and keys are named by their numbers.

Nothing is renewed here: only the plugin that made a connection knows how. A connection says when it ends by
`expires_at` (seconds since 1970, or ISO 8601) among its credentials; one that has a `refresh_token` is not told of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlmodel import col, select

from mercato.tenancy.alerts import Cause
from mercato.tenancy.connections import Connection, read_credentials
from mercato.tenancy.database import Database, TenantDatabase
from mercato.tenancy.errors import InvalidValue
from mercato.tenancy.keys import ApiKey
from mercato.tenancy.secrets import KeyRing
from mercato.tenancy.tenants import list_tenants

SOON = timedelta(days=7)
_MOST_NAMED = 5


async def check_all(database: Database, ring: KeyRing, now: datetime) -> Sequence[Cause]:
    """Return what is wrong with the credentials of each tenant, one cause of a kind to a tenant."""
    causes: list[Cause] = []
    for tenant in await list_tenants(database):
        async with database.tenant(tenant.id, read_only=True) as db:
            causes += await _check(db, ring, now, tenant.id)
    return causes


async def _check(db: TenantDatabase, ring: KeyRing, now: datetime, tenant_id: int) -> list[Cause]:
    unreadable, ending = [], []
    for connection in await db.rows(select(Connection).order_by(col(Connection.id))):
        name = f"connection {connection.id} ({connection.integration})"
        try:
            ends_at = _ends_at(read_credentials(connection, ring))
        except InvalidValue:
            unreadable.append(name)
            continue
        if ends_at is not None and ends_at <= now + SOON:
            ending.append(f"{name} {_when(ends_at, now)}")
    keys = await db.rows(_keys_that_end(now))
    ending += [f"API key {key.id} ({key.shown}…) {_when(key.expires_at, now)}" for key in keys]
    causes = []
    if unreadable:
        text = f"The credentials of {_named(unreadable)} cannot be read: connect again, or bring back the key."
        causes.append(Cause("credential.unreadable", "critical", text, tenant_id))
    if ending:
        causes.append(Cause("credential.ending", "warning", f"Renew what ends soon: {_named(ending)}.", tenant_id))
    return causes


def _keys_that_end(now: datetime) -> Any:
    ends_at = col(ApiKey.expires_at)
    good = select(ApiKey).where(col(ApiKey.revoked_at).is_(None), ends_at > now, ends_at <= now + SOON)
    return good.order_by(ends_at)


def _ends_at(credentials: Mapping[str, Any]) -> datetime | None:
    told = credentials.get("expires_at")
    if told is None or credentials.get("refresh_token"):
        return None
    try:
        ends_at = datetime.fromtimestamp(told, UTC) if isinstance(told, int | float) else datetime.fromisoformat(told)
    except (TypeError, ValueError, OverflowError, OSError):
        return None
    return ends_at if ends_at.tzinfo is not None else ends_at.replace(tzinfo=UTC)


def _when(ends_at: datetime, now: datetime) -> str:
    return f"{'ended' if ends_at <= now else 'ends'} on {ends_at.astimezone(UTC):%Y-%m-%d}"


def _named(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
