"""The whole way in, as clients of several kinds go it."""

from __future__ import annotations

from mercato.tenancy.tenants import Tenant
from tests.server.browser import Browser
from tests.server.conftest import Site, modern
from tests.server.oauth.flow import connect, public_client


async def test_a_public_client_that_registered_itself_lists_exactly_what_was_ticked(
    site: Site, acme: Tenant, ada: Browser
):
    client = await public_client(site.url)
    tokens = await connect(ada, client, category=["probe"])
    assert tokens["token_type"] == "Bearer"
    assert tokens["expires_in"] == 3600
    assert tokens["scope"] == "tools:read probe"
    async with site.client(tokens["access_token"]) as http:
        listed = (await modern(http, "tools/list")).json()["result"]["tools"]
        names = {tool["name"] for tool in listed}
    reading = [tool for tool in site.runtime.catalog.categories["probe"].tools if tool.read_only]
    assert names == {tool.name for tool in reading if not tool.requires}
