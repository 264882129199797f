from __future__ import annotations

from contextlib import asynccontextmanager
from typing import Literal

import pytest
from pydantic import BaseModel, Field, model_validator

from mercato import PluginSettings
from mercato.plugins.manager import discover
from mercato.tenancy.memberships import add_member
from mercato.tenancy.principal import READ, WRITE, Principal
from tests.inmemory import client_of, plugin

SYSTEM = next(one for one in discover() if one.built_in and one.name == "system")


class BakerySettings(BaseModel):
    oven: Literal["gas", "wood"] = Field(default="gas", description="What heats it.")
    opens_hour: int = Field(default=7, ge=0, le=23, description="When it opens.")
    closes_hour: int = Field(default=18, ge=0, le=23, description="When it closes.")
    webhook_token: str | None = Field(default=None, description="What a callback must carry.")

    @model_validator(mode="after")
    def _open_before_close(self):
        if self.opens_hour >= self.closes_hour:
            raise ValueError("It must open before it closes.")
        return self


BAKERY = plugin("bakery", register_settings=PluginSettings(tenant=BakerySettings))


@pytest.fixture
def open_bakery(open_plugins):
    """Open a runtime that has the system tools, and a plugin with settings."""

    def open_it(*more, strict=True):
        return open_plugins(SYSTEM, BAKERY, *more, strict=strict)

    return open_it


@pytest.fixture
def client_as(runtime, tenant):
    """Open a client of a new member of `tenant`, with this role: `async with client_as(Role.VIEWER) as mcp`."""

    @asynccontextmanager
    async def open_one(role, of=None):
        server, whose = of or (runtime, tenant)
        member = await add_member(server.database, whose.id, f"{role}@{whose.slug}.example", role.title(), role)
        principal = Principal(
            tenant_id=whose.id,
            user_id=member.user_id,
            role=role,
            scopes=frozenset({READ, WRITE}),
            categories=None,
            kind="key",
        )
        async with client_of(server, whose, principal=principal) as client:
            yield client

    return open_one
