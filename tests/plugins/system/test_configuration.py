from __future__ import annotations

from contextlib import asynccontextmanager

import anyio
import pytest
import sqlalchemy as sa
from mcp.shared.exceptions import MCPError

from mercato import admin
from mercato.server.changes import ChangeBus
from mercato.tenancy.memberships import Role
from tests.inmemory import client_of
from tests.plugins.system.conftest import BakerySettings


@pytest.fixture
async def bakery(open_bakery, new_tenant):
    """A runtime with a plugin that has settings, a tenant, and a client of it."""
    async with open_bakery() as runtime:
        tenant = await new_tenant(runtime)
        async with client_of(runtime, tenant) as client:
            yield runtime, tenant, client


async def _set(client, settings, section="bakery"):
    return await client.call_tool("update_tenant_config", {"section": section, "settings": settings})


async def _get(client, section="bakery"):
    found = (await client.call_tool("get_tenant_config", {"section": section})).structured_content
    return found["sections"][0]["settings"]


async def _entries(client):
    arguments = {"action": "update_tenant_config", "detail": "full"}
    return (await client.call_tool("get_audit_log", arguments)).structured_content["entries"]


WAITING = sa.text("select count(*) from pg_locks where not granted")
ASSISTANT = {"surface": "full", "pinned_tools": [], "search_clients": [], "unconfirmed_categories": []}
DEFAULTS = {"oven": "gas", "opens_hour": 7, "closes_hour": 18, "webhook_token": None}


async def test_every_section_is_shown_with_its_present_values(bakery):
    _, tenant, client = bakery
    found = (await client.call_tool("get_tenant_config", {})).structured_content
    assert found["sections"] == [
        {
            "section": "profile",
            "settings": {"name": tenant.name, "currency": "USD", "timezone": "UTC"},
            "keys": None,
        },
        {"section": "assistant", "settings": ASSISTANT, "keys": None},
        {"section": "bakery", "settings": DEFAULTS, "keys": None},
    ]


async def test_one_section_comes_with_what_each_setting_allows(bakery):
    _, _, client = bakery
    found = (await client.call_tool("get_tenant_config", {"section": "bakery"})).structured_content
    [section] = found["sections"]
    assert section["keys"]["oven"]["enum"] == ["gas", "wood"]
    assert section["keys"]["opens_hour"]["maximum"] == 23


async def test_a_section_that_does_not_exist_is_refused_with_those_that_do(bakery):
    _, _, client = bakery
    for result in (
        await client.call_tool("get_tenant_config", {"section": "florist"}),
        await _set(client, {}, "florist"),
    ):
        assert result.meta["mercato/error"] == {
            "code": "error",
            "retryable": False,
            "field": "section",
            "allowed": ["profile", "assistant", "bakery"],
        }


async def test_an_update_merges_key_by_key_and_says_what_changed(bakery):
    _, _, client = bakery
    await _set(client, {"oven": "wood"})
    result = await _set(client, {"oven": "wood", "opens_hour": 5})
    assert result.structured_content == {
        "section": "bakery",
        "changes": [{"key": "opens_hour", "old": 7, "new": 5}],
        "updated_settings": {**DEFAULTS, "oven": "wood", "opens_hour": 5},
    }
    assert await _get(client) == {**DEFAULTS, "oven": "wood", "opens_hour": 5}


async def test_the_profile_is_the_tenant_itself(bakery):
    _, _, client = bakery
    result = await _set(client, {"name": " Acme Bakers ", "currency": "EUR"}, "profile")
    assert result.structured_content["changes"] == [
        {"key": "name", "old": "Acme", "new": "Acme Bakers"},
        {"key": "currency", "old": "USD", "new": "EUR"},
    ]
    assert await _get(client, "profile") == {"name": "Acme Bakers", "currency": "EUR", "timezone": "UTC"}


@pytest.mark.parametrize(
    ("section", "settings", "field", "said"),
    [
        ("bakery", {"oven": "coal"}, "settings.oven", "Allowed: gas, wood."),
        ("bakery", {"opens_hour": 24}, "settings.opens_hour", "`opens_hour` must be at most 23."),
        ("bakery", {"oven": None}, "settings.oven", "Allowed: gas, wood."),
        ("bakery", {"opens_hour": 20}, "settings.bakery", "It must open before it closes. Nothing was changed."),
        ("bakery", {"ovens": "gas"}, "settings.ovens", "Allowed: oven, opens_hour, closes_hour, webhook_token."),
        ("bakery", {"opens_hour": 6, "oven": "coal"}, "settings.oven", "Allowed: gas, wood."),
        ("bakery", {"webhook_token": "***"}, "settings.webhook_token", "leave it out to keep what it is."),
        ("bakery", {}, "settings", "`settings` is empty."),
        ("bakery", {"webhook_token": "nul\x00"}, "settings", "cannot be stored"),
        (
            "profile",
            {"currency": "euro"},
            "settings.currency",
            "no ISO 4217 currency code, such as USD or EUR. Nothing",
        ),
        ("profile", {"timezone": "Mars/Base"}, "settings.timezone", "no IANA time zone"),
        ("profile", {"name": "  "}, "settings.name", "`name` must have at least 1 characters."),
        ("profile", {"slug": "other"}, "settings.slug", "Allowed: name, currency, timezone."),
    ],
)
async def test_what_is_not_valid_is_refused_by_name_and_nothing_is_written(bakery, section, settings, field, said):
    _, _, client = bakery
    before = await _get(client, section)
    result = await _set(client, settings, section)
    assert result.is_error
    assert result.meta["mercato/error"]["field"] == field
    assert said in result.content[0].text
    assert await _get(client, section) == before
    assert await _entries(client) == []


async def test_a_change_shows_in_the_settings_and_the_tenant_of_the_next_call(bakery):
    runtime, tenant, client = bakery
    await _set(client, {"oven": "wood"})
    await _set(client, {"timezone": "Asia/Tokyo"}, "profile")
    async with _context(runtime, tenant) as ctx:
        assert ctx.settings(BakerySettings).oven == "wood"
        assert ctx.tenant.timezone == "Asia/Tokyo"


async def test_a_change_shows_in_another_process(bakery, open_bakery):
    _, tenant, client = bakery
    async with open_bakery() as other:
        async with _context(other, tenant) as ctx:  # which is kept from now on
            assert ctx.settings(BakerySettings).oven == "gas"
        await _until(lambda: other.changes.connected)
        await _set(client, {"oven": "wood"})

        async def shows():
            async with _context(other, tenant) as ctx:
                return ctx.settings(BakerySettings).oven == "wood"

        await _until(shows)


async def test_only_a_change_that_was_made_is_told_to_other_processes(bakery, monkeypatch):
    _, _, client = bakery
    published = []

    async def publish(self, change):
        published.append(change)

    monkeypatch.setattr(ChangeBus, "publish", publish)
    await _set(client, {"oven": "coal"})
    assert published == []
    await _set(client, {"oven": "wood"})
    assert [change.kind for change in published] == ["access"]
    await _set(client, {"oven": "wood"})
    assert len(published) == 1


async def test_the_tenant_beside_it_keeps_its_own(bakery, new_tenant):
    runtime, _, client = bakery
    other = await new_tenant(runtime, "Globex")
    async with client_of(runtime, other) as neighbour:
        await _set(client, {"oven": "wood"})
        await _set(client, {"name": "Acme Bakers"}, "profile")
        assert await _get(neighbour) == DEFAULTS
        assert (await _get(neighbour, "profile"))["name"] == "Globex"
        await _set(neighbour, {"opens_hour": 4})
        assert (await _get(client))["opens_hour"] == 7
        assert len(await _entries(neighbour)) == 1


async def test_secrets_are_stored_and_never_shown(bakery):
    runtime, tenant, client = bakery
    result = await _set(client, {"webhook_token": "hunter2", "oven": "wood"})
    assert {"key": "webhook_token", "old": None, "new": "***"} in result.structured_content["changes"]
    [entry] = await _entries(client)
    assert entry["arguments"]["settings"] == {"webhook_token": "***", "oven": "wood"}
    everything = [result, await client.call_tool("get_tenant_config", {}), entry]
    assert "hunter2" not in repr(everything)
    async with _context(runtime, tenant) as ctx:
        assert ctx.settings(BakerySettings).webhook_token == "hunter2"


async def test_a_change_and_its_audit_entry_stand_and_fall_together(bakery, monkeypatch):
    _, _, client = bakery

    def broken(*_, **__):
        raise RuntimeError("no audit")

    with monkeypatch.context() as patch:
        patch.setattr("mercato.tenancy.audit.record", broken)
        assert (await _set(client, {"oven": "wood"})).is_error
    assert await _get(client) == DEFAULTS
    await _set(client, {"oven": "wood"})
    assert len(await _entries(client)) == 1


async def test_changes_of_different_keys_cannot_together_break_the_section(bakery):
    """Each is valid by itself; with both it would close before it opens. The second waits, then sees the first."""
    runtime, tenant, client = bakery
    second = []

    async def change():
        second.append(await _set(client, {"closes_hour": 10}))

    async def waits_or_is_done():
        async with runtime.database.tenant(tenant.id) as db:
            waiting = await (await db.session.connection()).scalar(WAITING)
        return bool(waiting or second)

    async with anyio.create_task_group() as group, _context(runtime, tenant, read_only=False) as ctx:
        await admin.update_config(ctx, "bakery", {"opens_hour": 15})
        group.start_soon(change)
        await _until(waits_or_is_done)
    assert second[0].is_error
    assert "It must open before it closes." in second[0].content[0].text


async def test_a_stored_value_that_a_newer_version_refuses_is_shown_and_can_be_mended(bakery):
    from mercato.tenancy.access import merge_settings

    runtime, tenant, client = bakery
    async with runtime.database.tenant(tenant.id) as db:
        await merge_settings(db, "bakery", {"oven": "coal", "gone": 1})
    assert (await _get(client))["oven"] == "coal"
    assert (await _set(client, {"opens_hour": 5})).meta["mercato/error"]["field"] == "settings.oven"
    assert (await _set(client, {"oven": "wood"})).structured_content["changes"][0]["old"] == "coal"


@pytest.mark.parametrize("role", [Role.MANAGER, Role.MEMBER, Role.VIEWER])
async def test_nobody_else_may_change_or_know_of_it(client_as, role):
    async with client_as(role) as client:
        assert "update_tenant_config" not in {tool.name for tool in (await client.list_tools()).tools}
        with pytest.raises(MCPError) as refusal:
            await _set(client, {"name": "Mine"}, "profile")
        assert refusal.value.error.code == -32602
        assert (await client.call_tool("get_tenant_config", {})).structured_content["sections"]


@asynccontextmanager
async def _context(runtime, tenant, *, read_only=True):
    from mercato.tenancy.onboarding import local_principal
    from mercato.tools.context import Conversation

    access = await runtime.directory.access(tenant.id)
    principal = await local_principal(runtime.database, tenant)
    async with runtime.contexts.context(principal, access, Conversation(None), read_only=read_only, name="test") as ctx:
        yield ctx


async def _until(holds):
    """Look again and again, for ten seconds at most."""
    with anyio.fail_after(10):
        while True:
            now = holds()
            if now is True or (not isinstance(now, bool) and await now):
                return
            await anyio.lowlevel.checkpoint()
