"""Tool: a typed async function, and everything the wire and the gate need to know of it."""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Generic, Literal, TypeVar, get_args, get_origin, get_type_hints

import mcp_types as mcp
from pydantic import BaseModel, ConfigDict, TypeAdapter, create_model

from mercato.tools.arguments import parse
from mercato.tools.schema import Schema, SchemaError, input_schema, output_schema

Rate = Literal["read", "write", "heavy"]
Task = Literal["never", "allowed", "required"]
Question = Callable[..., Awaitable[str]]
Asks = Callable[..., Awaitable[Any]]
Model = TypeVar("Model", bound=BaseModel)
NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
CONFIRM: Schema = {
    "type": "boolean",
    "description": "Pass true once the person has agreed, where this client cannot ask them itself.",
}

# A field that holds another type than it says is an error. To tell pydantic so in each `to_json` costs a call 6 %; its
# warnings come from the module that calls it, which is this one, and no other is meant.
warnings.filterwarnings("error", category=UserWarning, module=re.escape(__name__))


@dataclass(frozen=True, slots=True)
class Reply(Generic[Model]):
    """An answer with more than a model: images or embedded resources, links, `_meta`, and what it changed.

    A tool that returns `Reply[Answer]` has the output schema of `Answer`; one that returns a bare `Reply` has none.
    `changed` lists the URIs of resources that the call has changed; their subscribers are told after the commit.
    """

    model: Model
    content: Sequence[mcp.ContentBlock] = ()
    links: Sequence[mcp.ResourceLink] = ()
    meta: Mapping[str, Any] | None = None
    changed: Sequence[str] = ()


@dataclass(frozen=True)
class Tool:
    """One tool. Made by `Category.tool`; still callable as the function it was, for tests.

    Raises `TypeError` when it is declared, if its function cannot be a tool.
    """

    function: Callable[..., Awaitable[Any]]
    category: str
    read_only: bool
    destructive: bool = False
    question: Question | None = None
    idempotent: bool = False
    open_world: bool = False
    requires: tuple[str, ...] = ()
    rate: Rate = "read"
    task: Task = "never"
    asks: Asks | None = None
    admin: bool = False
    timeout_s: float = 30
    title: str | None = None
    aliases: tuple[str, ...] = ()
    meta: Mapping[str, Any] | None = None
    raw_input_schema: Schema | None = None
    name: str = field(init=False)
    description: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", getattr(self.function, "__name__", ""))
        object.__setattr__(self, "description", " ".join((inspect.getdoc(self.function) or "").split()))
        _check(self)

    async def __call__(self, ctx: Any, **arguments: Any) -> Any:
        """Run the function itself, past the gate and validation: for unit tests and for other tools of the plugin."""
        return await self.function(ctx, **arguments)

    @property
    def is_raw(self) -> bool:
        """Whether the function takes the SDK's request context and returns SDK types."""
        return self.raw_input_schema is not None

    @cached_property
    def input_schema(self) -> Schema:
        """The JSON Schema of the arguments; with `confirm` where the tool is destructive."""
        if self.raw_input_schema is not None:
            return self.raw_input_schema
        schema = input_schema(TypeAdapter(self._model))
        if self.destructive:
            schema["properties"]["confirm"] = CONFIRM
        schema.pop("description", None)
        return schema

    @cached_property
    def output_schema(self) -> Schema | None:
        """The JSON Schema of the structured answer; None for a raw tool and for a tool that returns a bare `Reply`."""
        if self.is_raw or self._returned is Reply:
            return None
        schema = output_schema(self._answer)
        schema.pop("description", None)
        return schema

    @property
    def wire_title(self) -> str:
        """The name that a person reads."""
        return self.title or self.name.replace("_", " ").capitalize()

    def parse(self, raw: dict[str, Any]) -> dict[str, Any]:
        """Return the function's arguments. Raises `InvalidArguments`."""
        return parse(self._model, self.input_schema, raw)

    def dump(self, value: Any) -> bytes:
        """Return the structured answer of what the function returned, as JSON.

        Raises `TypeError` if it is not what the function says that it returns, and `UserWarning` if a field is not.
        """
        model = value
        if type(model) is not self._returned or type(model) is Reply:  # pydantic's `isinstance` is slow
            model = self._checked(value)
        dumped: bytes = model.__pydantic_serializer__.to_json(model)
        return dumped

    def _checked(self, value: Any) -> BaseModel:
        model = value.model if isinstance(value, Reply) else value
        if not isinstance(model, BaseModel) or (self._returned is not Reply and not isinstance(model, self._returned)):
            raise TypeError(f"the tool {self.name} returned {type(model).__name__}, not {self._returned.__name__}")
        return model

    @cached_property
    def _hints(self) -> dict[str, Any]:
        return get_type_hints(self.function, include_extras=True)

    @cached_property
    def _returned(self) -> Any:
        returned = self._hints.get("return")
        return get_args(returned)[0] if get_origin(returned) is Reply else returned

    @cached_property
    def _answer(self) -> TypeAdapter[Any]:
        return TypeAdapter(self._returned)

    @cached_property
    def _model(self) -> type[BaseModel]:
        parameters = list(inspect.signature(self.function).parameters.values())[1:]
        fields: dict[str, Any] = {
            parameter.name: (
                self._hints[parameter.name],
                ... if parameter.default is parameter.empty else parameter.default,
            )
            for parameter in parameters
        }
        return create_model(self.name, __config__=ConfigDict(extra="forbid", str_strip_whitespace=True), **fields)


def _check(tool: Tool) -> None:
    if not inspect.iscoroutinefunction(tool.function):
        raise TypeError(f"the tool {tool.name or repr(tool.function)} must be an `async def` function")
    if not NAME.fullmatch(tool.name):
        raise TypeError(f"the tool name {tool.name!r} must be snake_case, 64 characters at most")
    if not tool.description:
        raise TypeError(f"the tool {tool.name} needs a docstring: it is what the model reads")
    if tool.read_only and tool.destructive:
        raise TypeError(f"the tool {tool.name} cannot be read-only and destructive at once")
    if tool.asks is not None and tool.task == "never":
        raise TypeError(f"the tool {tool.name} is never a task, so nothing can be asked before one: call `ctx.ask`")
    if tool.is_raw:
        _check_raw(tool)
    else:
        _check_types(tool)


def _check_raw(tool: Tool) -> None:
    if tool.input_schema.get("type") != "object":
        raise SchemaError(f"the input schema of {tool.name} must have the type `object`")


def _check_types(tool: Tool) -> None:
    parameters = list(inspect.signature(tool.function).parameters.values())
    if not parameters:
        raise TypeError(f"the tool {tool.name} needs the context as its first parameter")
    for parameter in parameters[1:]:
        if parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY}:
            raise TypeError(f"the parameter {parameter.name} of {tool.name} must have a name of its own")
        if parameter.name not in tool._hints or parameter.name == "confirm":
            raise TypeError(f"the parameter `{parameter.name}` of {tool.name} must have a type, and not be `confirm`")
    returned = tool._returned
    if not (isinstance(returned, type) and (returned is Reply or issubclass(returned, BaseModel))):
        raise TypeError(f"the tool {tool.name} must say that it returns a pydantic model, or a `Reply`")
    try:
        _ = tool.input_schema, tool.output_schema
    except SchemaError as error:
        raise SchemaError(f"the tool {tool.name}: {error}") from None
