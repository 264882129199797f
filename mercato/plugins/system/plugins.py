"""Plugins: what this server is made of, and what had to be left out."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from mercato import ToolContext, admin
from mercato.plugins.system.category import system


class Plugin(BaseModel):
    """A plugin that serves, or one that was disabled at a stage for a reason, which owners and admins see."""

    name: str
    status: Literal["loaded", "disabled"]
    origin: str | None = None
    version: str | None = None
    categories: list[str] = []
    tool_count: int = 0
    stage: str | None = None
    reason: str | None = None


class Plugins(BaseModel):
    """Every plugin of the server."""

    plugins: list[Plugin]
    total_count: int


@system.tool(read_only=True)
async def list_plugins(ctx: ToolContext) -> Plugins:
    """List the server's plugins: those that serve, with version, categories and tools; those disabled, with why."""
    loaded = [
        Plugin(
            name=one.name,
            status="loaded",
            origin=one.origin,
            version=one.version,
            categories=list(one.categories),
            tool_count=one.tool_count,
        )
        for one in admin.loaded_plugins(ctx)
    ]
    disabled = [_disabled(one, reveal=ctx.user.role.administers) for one in admin.disabled_plugins(ctx)]
    return Plugins(plugins=loaded + disabled, total_count=len(loaded) + len(disabled))


def _disabled(one: admin.DisabledPlugin, *, reveal: bool) -> Plugin:
    """A reason may quote what the server's operator configured, which is not for everybody."""
    return Plugin(name=one.name, status="disabled", stage=one.stage, reason=one.reason if reveal else None)
