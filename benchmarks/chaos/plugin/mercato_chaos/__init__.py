"""What the tests of chaos call: a read, a write whose effects can be counted, work that tells how far it is, jobs."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field
from sqlmodel import select

from mercato import Category, Job, Reply, TenantOwned, ToolContext, hookimpl, identity
from mercato_chaos.jobs import JOBS

chaos = Category("chaos", "Notes, to be written while servers are killed.")
_STEPS, _STEP_S = 5, 0.25
_BEFORE_S, _AFTER_S = 0.05, 0.1


class Note(TenantOwned, table=True):
    """A note."""

    __tablename__ = "notes"
    __table_args__ = {"schema": "chaos"}

    id: int = identity()
    text: str


class Said(BaseModel):
    """What every tool returns."""

    text: str


@chaos.tool(read_only=True)
async def read_note(ctx: ToolContext, text: Annotated[str, Field(description="The whole note.")]) -> Said:
    """Look for a note."""
    rows = await ctx.db.rows(select(Note.id).where(Note.text == text).limit(1))
    return Said(text="there" if rows else "not there")


@chaos.tool(read_only=False)
async def write_note(ctx: ToolContext, text: Annotated[str, Field(description="The whole note.")]) -> Reply[Said]:
    """Write a note. It dawdles on both sides of its commit, so that a kill meets each often enough."""
    await asyncio.sleep(_BEFORE_S)
    ctx.db.session.add(Note(text=text))
    ctx._after_commit.append(partial(asyncio.sleep, _AFTER_S))
    return Reply(Said(text=text), changed=["chaos://notes"])


@chaos.tool(read_only=True)
async def count_steps(ctx: ToolContext) -> Said:
    """Count, and tell of every step."""
    for done in range(_STEPS):
        await ctx.progress(done, _STEPS)
        await asyncio.sleep(_STEP_S)
    return Said(text=f"{_STEPS} steps")


@chaos.resource("chaos://notes", mime_type="text/plain")
async def notes(ctx: ToolContext) -> str:
    """The notes."""
    return f"the notes of {ctx.tenant.slug}"


@hookimpl
def register_categories() -> list[Category]:
    """Return the category `chaos`."""
    return [chaos]


@hookimpl
def register_jobs() -> list[Job[..., Any]]:
    """Return the jobs."""
    return JOBS


@hookimpl
def register_migrations() -> Path:
    """Return the versions of the schema `chaos`."""
    return Path(__file__).parent / "migrations"
