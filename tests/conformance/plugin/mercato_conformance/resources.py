"""Resources: a text, bytes, a template, and one to subscribe to."""

from __future__ import annotations

import base64
import json

from mercato import ToolContext
from mercato_conformance.category import conformance
from mercato_conformance.content import PNG


@conformance.resource("test://static-text", mime_type="text/plain")
async def static_text(ctx: ToolContext) -> str:
    """A text that stays the same."""
    return "This is the content of the static text resource."


@conformance.resource("test://static-binary", mime_type="image/png")
async def static_binary(ctx: ToolContext) -> bytes:
    """A picture that stays the same."""
    return base64.b64decode(PNG)


@conformance.resource("test://watched-resource", mime_type="text/plain")
async def watched_resource(ctx: ToolContext) -> str:
    """A text that clients subscribe to."""
    return "Watched resource content"


@conformance.resource("test://template/{id}/data")
async def template_data(ctx: ToolContext, id: str) -> str:  # noqa: A002  # the suite's name
    """The data of one id."""
    return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})
