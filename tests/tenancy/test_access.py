"""What a tenant has on: a change shows at the next list and call, in every process."""

from __future__ import annotations

from contextlib import asynccontextmanager
from types import SimpleNamespace

import anyio
import pytest
from mcp.shared.exceptions import MCPError
from redis.asyncio import Redis

from mercato.server.auth import directory as directory_module
from mercato.server.auth.credentials import Credential
from mercato.server.auth.directory import LONGEST_AGE_S, Directory
from mercato.server.changes import Change, ChangeBus
from mercato.tenancy.access import load_access, merge_settings
from mercato.tenancy.grants import disable_category, disable_tool, enable_category, enable_tool
from mercato.tenancy.keys import create_key, revoke_key
from mercato.tenancy.memberships import Role, add_member
from tests.inmemory import client_of


async def until(condition, *, within_s=5):
    """Wait until what another process has published has arrived here."""
    with anyio.fail_after(within_s):
        while not await condition():
            await anyio.lowlevel.checkpoint()


@pytest.fixture
async def here_and_there(open_plugins, probes, new_tenant):
    """Two processes, a tenant of both, and a client of the first."""
    async with open_plugins(*probes) as here, open_plugins(*probes) as there:
        tenant = await new_tenant(here)
        await until(lambda: _connected(here))
        async with client_of(here, tenant) as client:
            yield here, there, tenant, client


async def _connected(runtime):
    return runtime.changes.connected


@asynccontextmanager
async def changed(runtime, tenant):
    async with runtime.database.tenant(tenant.id) as db:
        yield db
    await runtime.changes.publish(Change("access", tenant.id))


async def names(client):
    return {tool.name for tool in (await client.list_tools()).tools}


async def test_a_tool_that_is_switched_off_elsewhere_is_neither_listed_nor_called_here(here_and_there):
    _, there, tenant, client = here_and_there
    assert await names(client) == {"read_first", "write_first", "read_second", "write_second"}
    async with changed(there, tenant) as db:
        assert await disable_tool(db, "read_first")
        assert not await disable_tool(db, "read_first")
    await until(lambda: _is_listed(client, "read_first", there=False))
    result = await client.call_tool("read_first")
    assert result.meta["mercato/error"]["code"] == "switched_off"
    assert f"`mercato tool enable read_first --tenant {tenant.slug}`" in result.content[0].text
    async with changed(there, tenant) as db:
        assert await enable_tool(db, "read_first")
        assert not await enable_tool(db, "read_first")
    await until(lambda: _is_listed(client, "read_first"))
    assert not (await client.call_tool("read_first")).is_error


async def _is_listed(client, name, *, there=True):
    return (name in await names(client)) is there


async def test_a_category_that_is_switched_off_elsewhere_is_neither_listed_nor_called_here(here_and_there):
    _, there, tenant, client = here_and_there
    async with changed(there, tenant) as db:
        assert await disable_category(db, "first")
        assert not await disable_category(db, "first")
    await until(lambda: _is_listed(client, "read_first", there=False))
    assert await names(client) == {"read_second", "write_second"}
    result = await client.call_tool("write_first")
    assert f"`mercato category enable first --tenant {tenant.slug}`" in result.content[0].text
    async with changed(there, tenant) as db:
        assert await enable_category(db, "first")
    await until(lambda: _is_listed(client, "read_first"))


async def test_a_change_of_one_tenant_leaves_the_others_as_they_are(here_and_there, new_tenant):
    here, there, _, client = here_and_there
    globex = await new_tenant(here, "Globex")
    async with changed(there, globex) as db:
        await disable_tool(db, "read_first")
    async with client_of(here, globex) as theirs:
        await until(lambda: _is_listed(theirs, "read_first", there=False))
    assert await _is_listed(client, "read_first")


async def test_a_key_that_is_revoked_elsewhere_is_refused_here(here_and_there):
    here, there, tenant, _ = here_and_there
    member = await add_member(here.database, tenant.id, "ada@acme.example", "Ada", Role.OWNER)
    async with here.database.tenant(tenant.id) as db:
        row, key = await create_key(db, member, "k", ["*"], None)
    assert await here.directory.caller(Credential("header", key)) is not None
    async with changed(there, tenant) as db:
        await revoke_key(db, row.id)

    async def refused():
        return await here.directory.caller(Credential("header", key)) is None

    await until(refused)


@pytest.fixture
def clock(monkeypatch):
    """The directory's clock, which the test moves."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(directory_module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


@pytest.fixture
async def deaf(database, runtime):
    """A directory whose bus reaches no Redis."""
    redis = Redis.from_url("unix:///there/is/no/redis")
    yield Directory(database, ChangeBus(redis), runtime.oauth.access_tokens, runtime.site)
    await redis.aclose()


async def test_without_redis_a_change_elsewhere_shows_when_the_memory_is_too_old(deaf, clock, database, tenant):
    before = await deaf.access(tenant.id)
    async with database.tenant(tenant.id) as db:
        await disable_tool(db, "any_tool")
    clock.now = LONGEST_AGE_S - 1
    assert await deaf.access(tenant.id) is before
    clock.now = LONGEST_AGE_S
    assert "any_tool" in (await deaf.access(tenant.id)).disabled_tools


async def test_without_redis_a_change_made_here_shows_at_once(database, tenant, runtime):
    redis = Redis.from_url("unix:///there/is/no/redis")
    bus = ChangeBus(redis)
    directory = Directory(database, bus, runtime.oauth.access_tokens, runtime.site)
    await directory.access(tenant.id)
    async with database.tenant(tenant.id) as db:
        await disable_tool(db, "any_tool")
    await bus.publish(Change("access", tenant.id))
    assert "any_tool" in (await directory.access(tenant.id)).disabled_tools
    await redis.aclose()


async def test_what_was_read_before_a_change_is_not_remembered_after_it(database, tenant, runtime, monkeypatch):
    bus = ChangeBus(runtime.redis)
    directory = Directory(database, bus, runtime.oauth.access_tokens, runtime.site)
    real = directory_module.load_access

    async def overtaken(*arguments):
        old = await real(*arguments)
        async with database.tenant(tenant.id) as db:
            await disable_tool(db, "any_tool")
        await bus.publish(Change("access", tenant.id))
        return old

    monkeypatch.setattr(directory_module, "load_access", overtaken)
    assert "any_tool" not in (await directory.access(tenant.id)).disabled_tools
    monkeypatch.setattr(directory_module, "load_access", real)
    assert "any_tool" in (await directory.access(tenant.id)).disabled_tools


async def test_an_unknown_tenant_has_no_access(database, runtime):
    assert await load_access(database, 2**62) is None
    assert await runtime.directory.access(2**62) is None


async def test_settings_are_merged_key_by_key(database, tenant, other_tenant):
    for values in ({"a": 1, "b": {"x": 1}}, {"b": {"y": 2}}, {"c": None}):
        async with database.tenant(tenant.id) as db:
            await merge_settings(db, "probe", values)
    assert (await load_access(database, tenant.id)).settings == {"probe": {"a": 1, "b": {"y": 2}, "c": None}}
    assert (await load_access(database, other_tenant.id)).settings == {}


ROLES = [
    (Role.OWNER, {"read_first", "write_first", "read_second", "write_second"}),
    (Role.MEMBER, {"read_first", "write_first", "read_second", "write_second"}),
    (Role.VIEWER, {"read_first", "read_second"}),
]


@pytest.mark.parametrize(("role", "expected"), ROLES)
async def test_a_role_lists_what_it_may_call_and_learns_of_nothing_else(
    open_plugins, probes, new_tenant, role, expected
):
    async with open_plugins(*probes) as runtime:
        tenant = await new_tenant(runtime)
        member = await add_member(runtime.database, tenant.id, f"{role}@acme.example", "Bob", role)
        async with runtime.database.tenant(tenant.id) as db:
            _, key = await create_key(db, member, "k", ["*"], None)
        principal = (await runtime.directory.caller(Credential("header", key))).principal
        async with client_of(runtime, tenant, principal=principal) as client:
            assert await names(client) == expected
            for name in {"write_first", "no_such_tool"} - expected:
                with pytest.raises(MCPError) as raised:
                    await client.call_tool(name)
                assert (raised.value.code, raised.value.message) == (-32602, f"There is no tool {name!r}.")
