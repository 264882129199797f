"""Prompt: typed arguments in, messages out."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, get_type_hints

import mcp_types as mcp
from pydantic import BaseModel, ConfigDict, TypeAdapter, create_model

from mercato.tools.arguments import parse
from mercato.tools.completer import Completer
from mercato.tools.schema import Schema, input_schema

Messages = str | Sequence[mcp.PromptMessage]


@dataclass(frozen=True)
class Prompt:
    """One prompt. Made by `Category.prompt`; still callable as the function it was.

    The function takes the context and its arguments, which travel as texts and are validated by their types. It
    returns a text, sent as the user's message, or a list of messages.
    """

    function: Callable[..., Awaitable[Messages]]
    category: str
    title: str | None = None
    complete: Mapping[str, Completer] = field(default_factory=dict)
    name: str = field(init=False)
    description: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", getattr(self.function, "__name__", ""))
        object.__setattr__(self, "description", " ".join((inspect.getdoc(self.function) or "").split()))
        if not inspect.iscoroutinefunction(self.function) or not self.description:
            raise TypeError(f"the prompt {self.name} must be an `async def` function with a docstring")
        _ = self.schema

    async def __call__(self, ctx: Any, **arguments: Any) -> Messages:
        """Return the messages."""
        return await self.function(ctx, **arguments)

    @cached_property
    def schema(self) -> Schema:
        """The JSON Schema of the arguments."""
        return input_schema(TypeAdapter(self._model))

    @property
    def arguments(self) -> list[mcp.PromptArgument]:
        """The arguments as the wire names them."""
        required = self.schema.get("required", ())
        return [
            mcp.PromptArgument(name=name, description=schema.get("description"), required=name in required)
            for name, schema in self.schema["properties"].items()
        ]

    def parse(self, raw: dict[str, Any]) -> dict[str, Any]:
        """Return the function's arguments. Raises `InvalidArguments`."""
        return parse(self._model, self.schema, raw)

    @cached_property
    def _model(self) -> type[BaseModel]:
        hints = get_type_hints(self.function, include_extras=True)
        parameters = list(inspect.signature(self.function).parameters.values())[1:]
        fields: dict[str, Any] = {
            parameter.name: (hints[parameter.name], ... if parameter.default is parameter.empty else parameter.default)
            for parameter in parameters
        }
        return create_model(self.name, __config__=ConfigDict(extra="forbid"), **fields)
