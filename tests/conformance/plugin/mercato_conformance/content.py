"""Tools that return each kind of content, and one that fails."""

from __future__ import annotations

import mcp_types as mcp

from mercato import Reply, ToolContext, ToolError
from mercato_conformance.category import Said, conformance

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
_WAV = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAA="


def image() -> mcp.ImageContent:
    """Return a picture of one pixel."""
    return mcp.ImageContent(data=PNG, mime_type="image/png")


def embedded(uri: str, mime_type: str, text: str) -> mcp.EmbeddedResource:
    """Return a resource's text as content."""
    return mcp.EmbeddedResource(resource=mcp.TextResourceContents(uri=uri, mime_type=mime_type, text=text))


@conformance.tool(read_only=True)
async def test_image_content(ctx: ToolContext) -> Reply[Said]:
    """Return an image."""
    return Reply(Said(text="an image"), content=[image()])


@conformance.tool(read_only=True)
async def test_audio_content(ctx: ToolContext) -> Reply[Said]:
    """Return a sound."""
    return Reply(Said(text="a sound"), content=[mcp.AudioContent(data=_WAV, mime_type="audio/wav")])


@conformance.tool(read_only=True)
async def test_embedded_resource(ctx: ToolContext) -> Reply[Said]:
    """Return an embedded resource."""
    text = "This is an embedded resource content."
    return Reply(Said(text=text), content=[embedded("test://embedded-resource", "text/plain", text)])


@conformance.tool(read_only=True)
async def test_multiple_content_types(ctx: ToolContext) -> Reply[Said]:
    """Return a text, an image and an embedded resource."""
    text = "Multiple content types test:"
    resource = embedded("test://mixed-content-resource", "application/json", '{"test":"data","value":123}')
    return Reply(Said(text=text), content=[mcp.TextContent(text=text), image(), resource])


@conformance.tool(read_only=True)
async def test_error_handling(ctx: ToolContext) -> Said:
    """Fail in the way that the model reads."""
    raise ToolError("This tool intentionally returns an error for testing")
