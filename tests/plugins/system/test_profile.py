from __future__ import annotations

import orjson

URI = "mercato://tenant/profile"


async def _profile(client):
    return orjson.loads((await client.read_resource(URI)).contents[0].text)


async def test_the_profile_tells_who_the_tenant_is_and_what_it_has_on(mcp, tenant, runtime):
    assert await _profile(mcp) == {
        "name": "Acme",
        "slug": tenant.slug,
        "currency": "USD",
        "timezone": "UTC",
        "categories": sorted(runtime.catalog.categories),
        "integrations": [],
    }


async def test_it_tells_what_is_connected_and_no_secret(mcp, other_mcp, connect):
    await connect("shopify", "acme.myshopify.com", token="hunter2")
    await connect("shopify", "acme-eu.myshopify.com", token="hunter2")
    profile = await _profile(mcp)
    assert profile["integrations"] == ["shopify"]
    assert "hunter2" not in repr(profile)
    assert (await _profile(other_mcp))["integrations"] == []


async def test_a_new_name_shows_at_once_and_to_one_tenant_only(mcp, other_mcp):
    await mcp.call_tool("update_tenant_config", {"section": "profile", "settings": {"name": "Acme Bakers"}})
    assert (await _profile(mcp))["name"] == "Acme Bakers"
    assert (await _profile(other_mcp))["name"] == "Globex"


async def test_it_is_listed(mcp):
    assert URI in {str(resource.uri) for resource in (await mcp.list_resources()).resources}
