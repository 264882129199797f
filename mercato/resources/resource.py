"""Resource: a URI, or a template of URIs, and the function that reads it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import unquote

from pydantic import BaseModel

from mercato.tools.completer import Completer

_VARIABLE = re.compile(r"\{([a-z_]+)\}")


@dataclass(frozen=True)
class Resource:
    """One resource or template. Made by `Category.resource`; still callable as the function it was.

    The function takes the context and the template's variables as texts, and returns a model (sent as JSON), a text,
    or bytes. It raises `LookupError` where there is nothing at that URI. `complete` offers values of a variable.
    """

    function: Callable[..., Awaitable[BaseModel | str | bytes]]
    uri: str
    category: str
    mime_type: str = "application/json"
    title: str | None = None
    requires: tuple[str, ...] = ()
    complete: Mapping[str, Completer] = field(default_factory=dict)
    name: str = field(init=False)
    description: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", getattr(self.function, "__name__", ""))
        object.__setattr__(self, "description", " ".join((inspect.getdoc(self.function) or "").split()))
        _check(self)

    async def __call__(self, ctx: Any, **variables: str) -> BaseModel | str | bytes:
        """Read it."""
        return await self.function(ctx, **variables)

    @property
    def is_template(self) -> bool:
        """Whether the URI has variables."""
        return bool(self.variables)

    @cached_property
    def variables(self) -> tuple[str, ...]:
        """The names of the template's variables, in order."""
        return tuple(_VARIABLE.findall(self.uri))

    def match(self, uri: str) -> dict[str, str] | None:
        """Return the variables of a URI of this template; None where it is another's."""
        found = self._pattern.fullmatch(uri)
        return {name: unquote(value) for name, value in found.groupdict().items()} if found else None

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        parts = _VARIABLE.split(self.uri)
        return re.compile(
            "".join(f"(?P<{part}>[^/?#]+)" if position % 2 else re.escape(part) for position, part in enumerate(parts))
        )


def _check(resource: Resource) -> None:
    if not inspect.iscoroutinefunction(resource.function):
        raise TypeError(f"the resource {resource.uri} must be an `async def` function")
    if "://" not in resource.uri:
        raise TypeError(f"the resource {resource.uri!r} needs a URI with a scheme")
    if not resource.description:
        raise TypeError(f"the resource {resource.uri} needs a docstring: it is what the model reads")
    parameters = tuple(inspect.signature(resource.function).parameters)[1:]
    if parameters != resource.variables:
        raise TypeError(f"the resource {resource.uri} must take {resource.variables} after the context")
