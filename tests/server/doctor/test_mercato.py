"""mercato itself, examined."""

from __future__ import annotations

import httpx

from mercato.tenancy.client_grants import list_grants
from mercato.tenancy.tenants import Tenant
from tests.server.browser import Browser
from tests.server.conftest import Site
from tests.server.doctor.examining import findings_of, worse
from tests.server.oauth.conftest import owner_of


async def test_mercato_is_well_for_whoever_has_an_api_key(site: Site, acme: Tenant):
    async with httpx.AsyncClient(trust_env=False) as http:
        findings = await findings_of(f"{site.url}/mcp", http, None, access_token=await site.key(acme))
    assert worse(findings) == []
    assert any("tools listed" in one.message for one in findings)


async def test_mercato_is_well_for_whoever_signs_in(site: Site, acme: Tenant):
    email = await owner_of(site.runtime, acme)

    async def sign_in(url: str) -> None:
        async with Browser(site.url) as browser, httpx.AsyncClient(trust_env=False) as elsewhere:
            consent = await browser.sign_in(email, page=await browser.get(url))
            answer = await browser.send(consent, "/authorize", decision="allow")
            await elsewhere.get(answer.headers["location"])

    async with httpx.AsyncClient(trust_env=False) as http:
        findings = await findings_of(f"{site.url}/mcp", http, sign_in, wait_s=20)
    assert [line for line in worse(findings) if "could not fetch" not in line] == []  # nothing outside is reached
    assert {finding.step for finding in findings} >= {"sign in", "token", "refresh", "calls", "replays"}
    async with site.runtime.database.tenant(acme.id, read_only=True) as db:
        assert await list_grants(db) == []  # it gives back what it was granted
