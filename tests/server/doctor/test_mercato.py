"""mercato itself, examined."""

from __future__ import annotations

import httpx

from mercato.tenancy.tenants import Tenant
from tests.server.conftest import Site
from tests.server.doctor.examining import findings_of, worse


async def test_mercato_is_well_for_whoever_has_an_api_key(site: Site, acme: Tenant):
    async with httpx.AsyncClient(trust_env=False) as http:
        findings = await findings_of(f"{site.url}/mcp", http, None, access_token=await site.key(acme))
    assert worse(findings) == []
    assert any("tools listed" in one.message for one in findings)
