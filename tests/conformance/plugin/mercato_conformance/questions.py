"""Tools that put questions to the person by `ctx.ask`: the same function serves both protocol eras."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from mercato import Reply, ToolContext
from mercato_conformance.category import Said, conformance, say


class Contact(BaseModel):
    """Who somebody is."""

    username: Annotated[str, Field(description="User's response")]
    email: Annotated[str, Field(description="User's email address")]


class Profile(BaseModel):
    """A form all of whose fields are filled in already."""

    name: Annotated[str, Field(description="User name")] = "John Doe"
    age: Annotated[int, Field(description="User age")] = 30
    score: Annotated[float, Field(description="User score")] = 95.5
    status: Annotated[Literal["active", "inactive", "pending"], Field(description="User status")] = "active"
    verified: Annotated[bool, Field(description="Verification status")] = True


class Name(BaseModel):
    """A name."""

    name: str


class Color(BaseModel):
    """A colour."""

    color: str


class Consent(BaseModel):
    """Yes or no."""

    ok: bool


@conformance.tool(read_only=True)
async def test_elicitation(ctx: ToolContext, message: Annotated[str, Field(description="What to ask.")]) -> Reply[Said]:
    """Ask who the user is."""
    return _accepted(await ctx.ask(message, Contact))


@conformance.tool(read_only=True)
async def test_elicitation_sep1034_defaults(ctx: ToolContext) -> Reply[Said]:
    """Ask with a default for each kind of field."""
    return _accepted(await ctx.ask("Please review and update the form fields with defaults", Profile))


@conformance.tool(read_only=True)
async def test_streaming_elicitation(ctx: ToolContext) -> Reply[Said]:
    """Ask in the result, where an older server would have asked on the stream."""
    answer = await ctx.ask("What is your name?", Name, key="user_name")
    return say(f"Hello, {answer.name}!")


@conformance.tool(read_only=True)
async def test_input_required_result_elicitation(ctx: ToolContext) -> Reply[Said]:
    """Ask for a name, and greet."""
    answer = await ctx.ask("What is your name?", Name, key="user_name")
    return say(f"Hello, {answer.name}!")


@conformance.tool(read_only=True)
async def test_input_required_result_request_state(ctx: ToolContext) -> Reply[Said]:
    """Ask for consent; the sealed state of the question must come back with the answer."""
    await ctx.ask("Please confirm", Consent, key="confirm")
    return say("state-ok")


@conformance.tool(read_only=True)
async def test_input_required_result_tampered_state(ctx: ToolContext) -> Reply[Said]:
    """Ask for consent; a state that somebody changed is refused before this runs."""
    await ctx.ask("Please confirm", Consent, key="confirm")
    return say("state-ok")


@conformance.tool(read_only=True)
async def test_input_required_result_multi_round(ctx: ToolContext) -> Reply[Said]:
    """Ask two questions, one after the other."""
    person = await ctx.ask("Step 1: What is your name?", Name, key="step1")
    taste = await ctx.ask("Step 2: What is your favorite color?", Color, key="step2")
    return say(f"Hello, {person.name}! Your favorite color is {taste.color}.")


def _accepted(answer: BaseModel) -> Reply[Said]:
    return say(f"User response: action=accept, content={answer.model_dump_json()}")
