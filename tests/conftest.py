from __future__ import annotations

import secrets

import pytest

from mercato.plugins.manager import Found
from mercato.server.runtime import open_runtime
from mercato.server.settings import Settings
from mercato.tenancy.onboarding import onboard_tenant


@pytest.fixture
def open_plugins(mercato_addresses, tmp_path):
    """Open a runtime that has only the plugins given, on the session's engines: `async with open_plugins(…)`."""

    def open_them(*found: Found, strict: bool = True):
        settings = Settings(data_dir=tmp_path, database_pool=4)
        return open_runtime(settings, mercato_addresses, found=found, strict=strict)

    return open_them


@pytest.fixture
def new_tenant():
    """Make a tenant in a runtime, with every category on."""

    async def make(runtime, name="Acme", **options):
        slug = f"{name.lower()}-{secrets.token_hex(6)}"
        categories = runtime.catalog.categories
        return await onboard_tenant(
            runtime.database, slug, name, owner_email=f"ada@{slug}.example", categories=categories, **options
        )

    return make
