"""The search surface over HTTP: what the URL asks for, at every kind of address, for two tenants, in both eras."""

from __future__ import annotations

from contextlib import asynccontextmanager

import httpx2
import orjson
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from mercato.server.app import create_app
from mercato.server.changes import Change
from mercato.server.settings import Settings
from mercato.tenancy.access import merge_settings
from tests.server import probe
from tests.server.conftest import envelope, listening

OWN = ["search_tools", "execute_read", "execute_write"]


@pytest.fixture(scope="module")
async def site(anyio_backend, mercato_addresses, tmp_path_factory):
    settings = Settings(data_dir=tmp_path_factory.mktemp("site"), log_level="warning", database_pool=4)

    def make(port):
        return create_app(settings.model_copy(update={"port": port}), mercato_addresses, found=[probe.FOUND])

    async with listening(make) as opened:
        yield opened


@pytest.fixture
async def acme(site, new_tenant):
    return await new_tenant(site.runtime)


@pytest.fixture
async def globex(site, new_tenant):
    """Another tenant, whose own surface is the search."""
    tenant = await new_tenant(site.runtime, "Globex")
    async with site.runtime.database.tenant(tenant.id) as db:
        await merge_settings(db, "assistant", {"surface": "search", "pinned_tools": ["echo", "change"]})
    await site.runtime.changes.publish(Change("access", tenant.id))
    return tenant


@pytest.fixture(params=["legacy", "auto"])
def connect(site, request):
    """Connect the SDK's client as a tenant's owner: `async with connect(acme, "/mcp?surface=search") as client`."""

    @asynccontextmanager
    async def open_one(tenant, path):
        headers = {"authorization": f"Bearer {await site.key(tenant)}"}
        async with (
            httpx2.AsyncClient(headers=headers, timeout=20) as http,
            Client(streamable_http_client(f"{site.url}{path}", http_client=http), mode=request.param) as client,
        ):
            yield client

    return open_one


async def names(client):
    return [tool.name for tool in (await client.list_tools()).tools]


async def test_the_url_chooses_the_surface_whatever_the_tenant_has_chosen(connect, acme, globex):
    for tenant, own in ((acme, False), (globex, True)):
        for path, searches in (("/mcp", own), ("/mcp?surface=search", True), ("/mcp?surface=full", False)):
            async with connect(tenant, path) as client:
                assert (OWN[0] in await names(client)) is searches, path
                assert ("search_tools" in client.instructions) is searches, path


async def test_what_is_found_can_be_executed_and_answers_as_the_tool_itself(connect, acme):
    async with connect(acme, "/mcp?surface=search") as client:
        found = (await client.call_tool("search_tools", {"query": "say the same again"})).structured_content
        assert found["tools"][0]["name"] == "echo"
        executed = await client.call_tool("execute_read", {"name": "echo", "arguments": {"text": "hello"}})
        itself = await client.call_tool("echo", {"text": "hello"})
    assert executed.model_dump_json() == itself.model_dump_json()
    assert executed.structured_content == {"text": f"{acme.slug}: hello"}


async def test_two_tenants_that_search_at_once_see_their_own(connect, acme, globex):
    async with connect(acme, "/mcp?surface=search") as one, connect(globex, "/mcp?surface=search") as other:
        assert await names(one) == OWN
        assert await names(other) == [*OWN, "echo", "change"]
        for client, tenant in ((one, acme), (other, globex)):
            result = await client.call_tool("execute_read", {"name": "echo"})
            assert result.structured_content == {"text": f"{tenant.slug}: nothing"}


@pytest.mark.parametrize(
    ("path", "own", "pinned"),
    [
        ("/mcp/readonly", OWN[:2], ["echo"]),
        ("/mcp/x/probe", OWN, ["echo", "change"]),
        ("/mcp/readonly/x/probe", OWN[:2], ["echo"]),
        ("/mcp/x/probe/readonly", OWN[:2], ["echo"]),
    ],
)
async def test_a_narrower_address_has_a_narrower_search(connect, globex, path, own, pinned):
    async with connect(globex, path) as client:
        assert await names(client) == [*own, *pinned]
        found = (await client.call_tool("search_tools", {"query": "change wipe echo"})).structured_content["tools"]
        assert {hit["execute"] for hit in found} == set(own[1:])
    async with connect(globex, f"{path}?surface=full") as client:
        listed = await names(client)
        assert "echo" in listed
        assert ("change" in listed) is (len(own) == 3)


@pytest.mark.parametrize("query", ["surface=", "surface=all", "surface=full&surface=search"])
async def test_a_surface_that_there_is_not_is_refused_with_the_id_of_the_request(site, acme, query):
    body, headers = envelope("tools/list")
    async with site.client(await site.key(acme)) as http:
        response = await http.post(f"/mcp?{query}", json=body, headers=headers)
    assert response.status_code == 400
    assert response.json() == {
        "jsonrpc": "2.0",
        "id": body["id"],
        "error": {"code": -32600, "message": "`surface` must be `full` or `search`."},
    }


async def test_a_scope_that_the_target_needs_is_asked_for_as_when_it_is_called_itself(site, acme):
    async with site.client(await site.key(acme, ["tools:read"])) as http:
        said = []
        for name, arguments in (("change", {}), ("execute_write", {"name": "change"})):
            body, headers = envelope("tools/call", {"name": name, "arguments": arguments})
            response = await http.post("/mcp?surface=search", json=body, headers=headers)
            said.append((response.status_code, response.headers["www-authenticate"], response.json()["error"]))
    assert said[0] == said[1]
    assert said[0][0] == 403
    assert 'scope="tools:read tools:write"' in said[0][1]


async def test_arguments_that_are_no_object_break_nothing(site, acme):
    async with site.client(await site.key(acme)) as http:
        for arguments in ([], "text", 7, None, {"name": []}, {"name": "echo", "arguments": []}):
            body, headers = envelope("tools/call", {"name": "execute_read", "arguments": arguments})
            response = await http.post("/mcp?surface=search", content=orjson.dumps(body), headers=headers)
            assert response.status_code < 500
            assert "Internal error" not in response.text
