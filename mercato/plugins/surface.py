"""Surface: what is listed of the tools: all of them, or a search, two to execute what it finds, and those pinned.

Listing is all that differs. Every tool can be called by its own name on either surface, and a tool that is executed
is resolved to the tool itself before the call begins: gate, validation, limits, confirmation, audit and usage see the
target alone, and nothing runs inside anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NoReturn, get_args
from urllib.parse import parse_qs

from mercato.plugins.tool_search import CATEGORY, EXECUTE_READ, EXECUTE_WRITE, SEARCH, for_caller
from mercato.tenancy.access import Access
from mercato.tenancy.assistant import Surface
from mercato.tools.errors import InvalidArguments, ToolError
from mercato.tools.schema import Schema
from mercato.tools.tool import Tool

if TYPE_CHECKING:
    from mercato.plugins.catalog import Visible

SURFACES: tuple[Surface, ...] = get_args(Surface)
OWN_NAMES = frozenset({SEARCH.name, EXECUTE_READ, EXECUTE_WRITE})
"""The names that no plugin's tool may have."""
INSTRUCTIONS = "Begin with `search_tools`: it finds tools, which `execute_read` and `execute_write` run. "
_LONGEST_NAME = 100

_SCHEMA: Schema = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "description": "The tool, as `search_tools` named it."},
        "arguments": {
            "type": "object",
            "description": "Its arguments, as its input schema has them; also `confirm`, where it has that.",
        },
    },
    "required": ["name"],
    "additionalProperties": False,
}


class UnknownSurface(ValueError):
    """A URL asks for a surface that there is not."""


def asked_surface(query_string: bytes) -> Surface | None:
    """Return the surface that a URL's query asks for; None where it asks for none. Raises `UnknownSurface`."""
    if not query_string:
        return None
    asked = set(parse_qs(query_string.decode("latin-1"), keep_blank_values=True).get("surface", ()))
    if not asked:
        return None
    for surface in SURFACES:
        if asked == {surface}:
            return surface
    raise UnknownSurface("`surface` must be `full` or `search`.")


def surface_of(asked: Surface | None, client: str | None, access: Access) -> Surface:
    """Return the surface of a request: what its URL asks for, else the client's, else the tenant's."""
    return asked or access.assistant.surface_for(client)


async def execute_read(ctx: Any, arguments: Mapping[str, Any]) -> NoReturn:
    """Run a tool that only reads. Answers as the tool itself does. `search_tools` tells names and arguments."""
    raise RuntimeError("what is executed runs itself: see `resolve`")


async def execute_write(ctx: Any, arguments: Mapping[str, Any]) -> NoReturn:
    """Run a tool that changes something. Answers, and asks before what cannot be undone, as the tool itself does."""
    raise RuntimeError("what is executed runs itself: see `resolve`")


def surface_tools(tools: Iterable[Tool]) -> dict[str, Tool]:
    """Return the tools of the search surface for a catalogue of these, by name in the order in which they are listed.

    The two to execute are declared as raw ones: they have no answer of their own whose schema could be told.
    """
    outside = {tool.read_only for tool in tools if tool.open_world}
    read = Tool(
        execute_read,
        CATEGORY,
        read_only=True,
        idempotent=True,
        open_world=True in outside,
        raw_input_schema=_SCHEMA,
    )
    write = Tool(
        execute_write,
        CATEGORY,
        read_only=False,
        destructive=True,
        open_world=False in outside,
        raw_input_schema=_SCHEMA,
    )
    return {tool.name: tool for tool in (SEARCH, read, write)}


def listed(visible: Visible) -> Iterator[Tool]:
    """Yield what the search surface lists: its own tools, then those that the tenant has pinned and can be called."""
    callable_now = {tool.name: tool for tool in visible.tools()}
    changes_something = any(not tool.read_only for tool in callable_now.values())
    for tool in visible.catalog.surface_tools.values():
        if tool.read_only or changes_something:
            yield tool
    for name in visible.access.assistant.pinned_tools:
        pinned = visible.catalog.tool(name)
        if pinned is not None and callable_now.pop(pinned.name, None) is not None:
            yield pinned


def resolve(visible: Visible, name: str, arguments: Mapping[str, Any]) -> tuple[Tool, Mapping[str, Any]]:
    """Return the tool that runs on the search surface, and its arguments.

    Raises as `Visible.tool` does, and `ToolError` where what is executed is none for it.
    """
    if name == SEARCH.name:
        return for_caller(visible), arguments
    if name not in OWN_NAMES:
        return visible.tool(name), arguments
    execute = visible.catalog.surface_tools[name]
    target, inner = _inner(arguments)
    if target in OWN_NAMES:
        raise ToolError(f"`{target}` is called by itself, not by `{name}`.", field="name")
    tool = visible.tool(target)
    if tool.read_only is not execute.read_only:
        does, right = ("only reads", EXECUTE_READ) if tool.read_only else ("changes something", EXECUTE_WRITE)
        raise ToolError(f"`{target}` {does}: run it with `{right}`.", field="name", next_step=f"Call `{right}`.")
    return tool, inner


def _inner(given: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """Return whom to call with what, untouched: the target itself says what is wrong with its arguments."""
    name, inner = given.get("name"), given.get("arguments")
    inner = {} if inner is None else inner
    if not isinstance(name, str):
        raise _unfit("name", "is missing: `search_tools` tells it" if name is None else "must be a text")
    if not isinstance(inner, Mapping):
        raise _unfit("arguments", "must be an object")
    for stray in (key for key in given if key not in _SCHEMA["properties"]):
        raise _unfit(stray, "belongs inside `arguments`, if the tool has it")
    return name, inner


def _unfit(field: str, reason: str) -> InvalidArguments:
    shown = field[:_LONGEST_NAME].encode("utf-8", "replace").decode()
    return InvalidArguments(f"`{shown}` {reason}.", field=shown, allowed=(), example=None)
