from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from playwright.async_api import Browser

from mercato.server.runtime import Addresses
from mercato.tenancy.memberships import Role
from mercato.tenancy.tenants import Tenant
from tests.server.conftest import Site
from tests.server.oauth.conftest import ada, cheap_passwords, gus, replica
from tests.server.web.chromium import Screens, chromium
from tests.server.web.people import Person, join, open_business

__all__ = ["ada", "cheap_passwords", "gus", "replica"]


@pytest.fixture(scope="session")
async def drawing_browser(anyio_backend: str) -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser


@pytest.fixture
def screens(drawing_browser: Browser, site: Site, tmp_path: Path) -> Screens:
    """Opens pages in Chromium."""
    return Screens(drawing_browser, site, tmp_path)


@pytest.fixture
async def harbour(site: Site) -> Tenant:
    """A business with every category on."""
    return await open_business(site, "Harbour & Pine")


@pytest.fixture
async def mia(site: Site, harbour: Tenant) -> Person:
    """The owner of Harbour & Pine. She has no password yet."""
    return await join(site, "Mia Lindqvist", (harbour, Role.OWNER))


@pytest.fixture
async def empty_addresses(mercato_addresses: Addresses, site: Site) -> AsyncIterator[Addresses]:
    """The engines, with a database of its own in which nobody can sign in; the roles are there once a site has been."""
    name = f"empty_{secrets.token_hex(4)}"
    parts = urlsplit(mercato_addresses.database_url)
    as_superuser = parts._replace(netloc=parts.netloc.replace("mercato_owner", "postgres"))
    superuser = await asyncpg.connect(urlunsplit(as_superuser))
    await superuser.execute(f"create database {name} owner mercato_owner")
    yield Addresses(urlunsplit(parts._replace(path=f"/{name}")), mercato_addresses.redis_url)
    await superuser.execute(f"drop database {name} with (force)")
    await superuser.close()
