"""Prompts: texts, arguments with completion, an image, a resource, and one that asks before it answers."""

from __future__ import annotations

from typing import Annotated

import mcp_types as mcp
from pydantic import BaseModel, Field

from mercato import ToolContext
from mercato_conformance.category import conformance
from mercato_conformance.content import embedded, image


class Background(BaseModel):
    """What the prompt is to be about."""

    context: str


async def _complete(ctx: ToolContext, begun: str) -> list[str]:
    return [word for word in ("paris", "park", "party", "test", "testing") if word.startswith(begun)]


@conformance.prompt()
async def test_simple_prompt(ctx: ToolContext) -> str:
    """A text."""
    return "This is a simple prompt for testing."


@conformance.prompt(complete={"arg1": _complete})
async def test_prompt_with_arguments(
    ctx: ToolContext,
    arg1: Annotated[str, Field(description="First test argument")],
    arg2: Annotated[str, Field(description="Second test argument")],
) -> str:
    """A text made of two arguments."""
    return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"


@conformance.prompt()
async def test_prompt_with_embedded_resource(
    ctx: ToolContext,
    resourceUri: Annotated[str, Field(description="URI of the resource to embed")],  # noqa: N803  # the suite's name
) -> list[mcp.PromptMessage]:
    """A resource, and a text about it."""
    resource = embedded(resourceUri, "text/plain", "Embedded resource content for testing.")
    return [_from_user(resource), _text("Please process the embedded resource above.")]


@conformance.prompt()
async def test_prompt_with_image(ctx: ToolContext) -> list[mcp.PromptMessage]:
    """An image, and a text about it."""
    return [_from_user(image()), _text("Please analyze the image above.")]


@conformance.prompt()
async def test_input_required_result_prompt(ctx: ToolContext) -> str:
    """A text about what the person answers."""
    answer = await ctx.ask("What context should the prompt use?", Background, key="user_context")
    return f"Use the following context: {answer.context}"


def _from_user(content: mcp.ContentBlock) -> mcp.PromptMessage:
    return mcp.PromptMessage(role="user", content=content)


def _text(text: str) -> mcp.PromptMessage:
    return _from_user(mcp.TextContent(text=text))
