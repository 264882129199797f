"""Configuration: what the tenant has set about itself and about each plugin."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field

from mercato import Reply, ToolContext, admin
from mercato.plugins.system.category import system
from mercato.plugins.system.profile import URI


class ConfigSection(BaseModel):
    """A section's values. `keys` has the JSON Schema of each where one section was asked for."""

    section: str
    settings: dict[str, Any]
    keys: dict[str, Any] | None


class TenantConfig(BaseModel):
    """The configuration, section by section."""

    sections: list[ConfigSection]


class SettingChange(BaseModel):
    """A setting that has another value now."""

    key: str
    old: Any
    new: Any


class ConfigUpdate(BaseModel):
    """What an update changed, and the whole section as it is now."""

    section: str
    changes: list[SettingChange]
    updated_settings: dict[str, Any]


@system.tool(read_only=True)
async def get_tenant_config(
    ctx: ToolContext,
    section: Annotated[
        str | None, Field(max_length=64, description="Only this section, with what each setting means and allows.")
    ] = None,
) -> TenantConfig:
    """Get the tenant's settings: `profile` (name, currency, timezone), `assistant` (which tools are listed, what is
    asked before it is done) and a section for each plugin that has any.
    """
    found = await admin.read_config(ctx, section)
    return TenantConfig(
        sections=[
            ConfigSection(
                section=one.name, settings=dict(one.values), keys=None if section is None else dict(one.schemas)
            )
            for one in found
        ]
    )


@system.tool(read_only=False, idempotent=True, admin=True)
async def update_tenant_config(
    ctx: ToolContext,
    section: Annotated[str, Field(max_length=64, description="`profile`, `assistant`, or a plugin's name.")],
    settings: Annotated[dict[str, Any], Field(description='The settings to change, as {"currency": "EUR"}.')],
) -> Reply[ConfigUpdate]:
    """Change settings of one section; those not given stay. Holds for every call from the next one on.

    `get_tenant_config` with the section tells what each setting allows.
    """
    changed, now = await admin.update_config(ctx, section, settings)
    update = ConfigUpdate(
        section=section,
        changes=[SettingChange(key=one.key, old=one.old, new=one.new) for one in changed],
        updated_settings=dict(now.values),
    )
    return Reply(update, changed=[URI] if section == admin.PROFILE and changed else [])
