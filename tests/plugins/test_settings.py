from __future__ import annotations

import pytest
from pydantic import BaseModel, Field, SecretStr

from mercato import Category, PluginSettings, ToolContext
from mercato.tenancy.access import merge_settings
from tests.inmemory import client_of, plugin

probe = Category("probe", "For the tests.")


class Deployed(BaseModel):
    url: str = "https://example.com"
    key: SecretStr = SecretStr("none")
    limit: int = Field(default=3, ge=1)


class OfTheTenant(BaseModel):
    greeting: str = "Hello"
    volume: int = Field(default=1, le=10)


class Unregistered(BaseModel):
    nothing: str = ""


class Answer(BaseModel):
    text: str


@probe.tool(read_only=True)
async def read_settings(ctx: ToolContext) -> Answer:
    """Read the settings."""
    deployed, own = ctx.settings(Deployed), ctx.settings(OfTheTenant)
    return Answer(text=f"{deployed.url} {deployed.limit} {deployed.key.get_secret_value()} {own.greeting} {own.volume}")


@probe.tool(read_only=True)
async def read_unregistered(ctx: ToolContext) -> Answer:
    """Read settings that nobody registered."""
    return Answer(text=ctx.settings(Unregistered).nothing)


FOUND = plugin(
    "probe",
    register_categories=[probe],
    register_settings=PluginSettings(deployment=Deployed, tenant=OfTheTenant),
)


async def test_deployment_settings_come_from_the_environment_and_a_tenants_from_its_own(
    open_plugins, new_tenant, monkeypatch
):
    monkeypatch.setenv("MERCATO_PROBE_LIMIT", "7")
    monkeypatch.setenv("MERCATO_PROBE_KEY", "sk_1")
    async with open_plugins(FOUND) as runtime:
        tenant = await new_tenant(runtime)
        async with runtime.database.tenant(tenant.id) as db:
            await merge_settings(db, "probe", {"greeting": "Moin"})
        other = await new_tenant(runtime, "Globex")
        async with client_of(runtime, tenant) as client, client_of(runtime, other) as theirs:
            ours = await client.call_tool("read_settings")
            assert ours.structured_content == {"text": "https://example.com 7 sk_1 Moin 1"}
            assert (await theirs.call_tool("read_settings")).structured_content["text"].endswith("Hello 1")
            assert (await client.call_tool("read_unregistered")).meta["mercato/error"]["code"] == "internal_fault"


async def test_a_stored_setting_that_a_newer_version_refuses_is_ignored(open_plugins, new_tenant):
    async with open_plugins(FOUND) as runtime:
        tenant = await new_tenant(runtime)
        async with runtime.database.tenant(tenant.id) as db:
            await merge_settings(db, "probe", {"greeting": "Moin", "volume": 11, "gone": True})
        async with client_of(runtime, tenant) as client:
            assert (await client.call_tool("read_settings")).structured_content["text"].endswith("Moin 1")


@pytest.mark.parametrize(
    ("value", "reason"),
    [("many", "SettingsError: MERCATO_PROBE_LIMIT must be a whole number."), ("0", "must be at least 1.")],
)
async def test_a_deployment_setting_that_cannot_be_used_disables_its_plugin_alone(
    open_plugins, new_tenant, monkeypatch, value, reason
):
    monkeypatch.setenv("MERCATO_PROBE_LIMIT", value)
    async with open_plugins(FOUND, strict=False) as runtime:
        [failure] = runtime.plugins.failures
        assert (failure.plugin, failure.stage) == ("probe", "settings")
        assert failure.reason.endswith(reason)
        assert runtime.catalog.tools == {}


async def test_in_strict_mode_it_stops_the_start(open_plugins, monkeypatch):
    monkeypatch.setenv("MERCATO_PROBE_LIMIT", "many")
    with pytest.raises(Exception, match="MERCATO_PROBE_LIMIT"):
        async with open_plugins(FOUND):
            pass
