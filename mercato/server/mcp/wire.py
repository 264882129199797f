"""Declarations as the wire has them: made once, when the catalogue is."""

from __future__ import annotations

import mcp_types as mcp

from mercato.prompts.prompt import Prompt
from mercato.resources.resource import Resource
from mercato.tools.tool import Tool

_ONLY_AS_TASK = "Runs only as a task (io.modelcontextprotocol/tasks): other clients cannot call it."


def wire_tool(tool: Tool) -> mcp.Tool:
    """Return a tool's definition: title and all four hints explicit, and an output schema that both eras accept."""
    return mcp.Tool(
        name=tool.name,
        title=tool.wire_title,
        description=f"{tool.description} {_ONLY_AS_TASK}" if tool.task == "required" else tool.description,
        input_schema=tool.input_schema,
        output_schema=tool.output_schema,
        annotations=mcp.ToolAnnotations(
            title=tool.wire_title,
            read_only_hint=tool.read_only,
            destructive_hint=tool.destructive,
            idempotent_hint=tool.idempotent,
            open_world_hint=tool.open_world,
        ),
        _meta=dict(tool.meta) if tool.meta else None,
    )


def wire_resource(resource: Resource) -> mcp.Resource:
    """Return a resource's definition."""
    return mcp.Resource(
        uri=resource.uri,
        name=resource.name,
        title=resource.title,
        description=resource.description,
        mime_type=resource.mime_type,
    )


def wire_template(resource: Resource) -> mcp.ResourceTemplate:
    """Return a template's definition."""
    return mcp.ResourceTemplate(
        uri_template=resource.uri,
        name=resource.name,
        title=resource.title,
        description=resource.description,
        mime_type=resource.mime_type,
    )


def wire_prompt(prompt: Prompt) -> mcp.Prompt:
    """Return a prompt's definition."""
    return mcp.Prompt(
        name=prompt.name, title=prompt.title, description=prompt.description, arguments=prompt.arguments or None
    )
