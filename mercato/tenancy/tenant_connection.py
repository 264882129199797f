"""A connection to PostgreSQL whose transactions are of one tenant from the statement on that begins them."""

from __future__ import annotations

from typing import Any

import asyncpg
from sqlalchemy.pool import PoolProxiedConnection


class TenantConnection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg has no types
    """Names the tenant in the round trip that begins the transaction: one of its own would be a write's fourth.

    The tenant is local to the transaction, so that it cannot outlive it in the pool; and what was to be begun and
    never was is forgotten when the connection is taken again.
    """

    next_tenant: int | None = None

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:  # noqa: ASYNC109  # as asyncpg
        """Execute commands, as asyncpg does."""
        if self.next_tenant is not None and query.startswith("BEGIN") and not args:
            query = f"{query}set local app.tenant_id = '{self.next_tenant:d}'"
            self.next_tenant = None
        done: str = await super().execute(query, *args, timeout=timeout)
        return done


def begin_for(connection: PoolProxiedConnection, tenant_id: int) -> None:
    """Make the transaction that this connection begins next one of a tenant."""
    _driver_of(connection).next_tenant = tenant_id


def forget_tenant(connection: Any, record: Any, proxy: Any) -> None:
    """Forget, when a connection is taken from the pool, whose transaction was to be begun on it."""
    _driver_of(connection).next_tenant = None


def _driver_of(connection: Any) -> TenantConnection:
    driver: TenantConnection = connection.driver_connection
    return driver
