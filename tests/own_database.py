"""A database of a test's own, in the cluster of the session: nothing works in it but what the test starts."""

from __future__ import annotations

import itertools
import secrets
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from mercato.migrations.runner import upgrade
from mercato.tenancy.database import Database
from mercato.tenancy.onboarding import onboard_tenant

_numbers = itertools.count(1)


@dataclass(frozen=True)
class OwnDatabase:
    """The core's tables, as the roles see them, and as a superuser does, to whom no policy applies."""

    url: str
    database: Database
    superuser: asyncpg.Connection

    async def new_tenant(self, name):
        """Make a tenant; its making is its first entry in the audit."""
        slug = f"{name}-{next(_numbers)}"
        return await onboard_tenant(self.database, slug, name, owner_email=f"ada@{slug}.example", categories=())


@asynccontextmanager
async def own_database(addresses):
    """Make a database and remove it at the end."""
    parts = urlsplit(addresses.database_url)
    as_superuser = parts._replace(netloc=parts.netloc.replace("mercato_owner", "postgres"))
    name = f"own_{secrets.token_hex(4)}"
    cluster = await asyncpg.connect(urlunsplit(as_superuser))
    await cluster.execute(f"create database {name} owner mercato_owner")
    url = urlunsplit(parts._replace(path=f"/{name}"))
    await upgrade(url, {})
    database = Database(url)
    superuser = await asyncpg.connect(urlunsplit(as_superuser._replace(path=f"/{name}")))
    yield OwnDatabase(url, database, superuser)
    await superuser.close()
    await database.close()
    await cluster.execute(f"drop database {name} with (force)")
    await cluster.close()
