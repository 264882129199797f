"""Category: tools, resources and prompts that a tenant switches on together."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mercato.prompts.prompt import Messages, Prompt
from mercato.resources.resource import Resource
from mercato.tools.completer import Completer
from mercato.tools.schema import Schema
from mercato.tools.tool import Asks, Question, Rate, Task, Tool

_NAME = re.compile(r"[a-z][a-z0-9_]{1,31}")


@dataclass(frozen=True)
class Category:
    """The unit that a tenant enables. Its decorators collect declarations; nothing exists until a plugin returns it.

    `description` is one sentence for people and, shortened, for the instructions that assistants read.
    """

    name: str
    description: str
    tools: list[Tool] = field(default_factory=list)
    resources: list[Resource] = field(default_factory=list)
    prompts: list[Prompt] = field(default_factory=list)

    @property
    def title(self) -> str:
        """Its name, as people read it."""
        return self.name.replace("_", " ").capitalize()

    def frozen(self) -> Category:
        """Return a copy that keeps what is declared now: what is added later has passed no check."""
        return replace(self, tools=[*self.tools], resources=[*self.resources], prompts=[*self.prompts])

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise TypeError(f"the category name {self.name!r} must be snake_case, 32 characters at most")
        if not self.description.strip():
            raise TypeError(f"the category {self.name} needs a description")

    def tool(
        self,
        *,
        read_only: bool,
        destructive: bool = False,
        question: Question | None = None,
        idempotent: bool | None = None,
        open_world: bool = False,
        requires: tuple[str, ...] = (),
        rate: Rate | None = None,
        task: Task = "never",
        asks: Asks | None = None,
        admin: bool = False,
        timeout_s: float = 30,
        title: str | None = None,
        aliases: tuple[str, ...] = (),
        meta: Mapping[str, Any] | None = None,
    ) -> Callable[[Callable[..., Awaitable[Any]]], Tool]:
        """Declare a tool: a typed async function whose docstring the model reads.

        `read_only` must be said. `destructive` asks before it acts, in the words of `question`: an async function of
        the context and the arguments, which says what would be done to what, and raises `ToolError` where it cannot be.
        `idempotent` is true of what only reads.
        `requires` names integrations that must be connected; `rate` is the tier of its limits ("read", "write",
        "heavy"); `admin` tools are for owners and admins; `aliases` are names it had before.
        `task` says whether it may run in the background, as a task that the client follows: "allowed" where the client
        can, "required" with no other way. `asks` is an async function of the context and the arguments whose questions
        are put before the task begins, while the person is there; the tool asks the same by the same keys.
        Raises `TypeError` if the function cannot be a tool.
        """

        def declare(function: Callable[..., Awaitable[Any]]) -> Tool:
            tool = Tool(
                function=function,
                category=self.name,
                read_only=read_only,
                destructive=destructive,
                question=question,
                idempotent=read_only if idempotent is None else idempotent,
                open_world=open_world,
                requires=requires,
                rate=rate or ("read" if read_only else "write"),
                task=task,
                asks=asks,
                admin=admin,
                timeout_s=timeout_s,
                title=title,
                aliases=aliases,
                meta=meta,
            )
            self.tools.append(tool)
            return tool

        return declare

    def raw_tool(
        self, *, input_schema: Schema, read_only: bool, title: str | None = None, timeout_s: float = 30
    ) -> Callable[[Callable[..., Awaitable[Any]]], Tool]:
        """Declare a tool that gets the SDK's request context and a dict of arguments, and returns the SDK's types.

        The escape hatch for what the protocol can do and `ToolContext` does not show. Nothing is validated, audited
        or given a database for it; the gate and the time-out hold.
        """

        def declare(function: Callable[..., Awaitable[Any]]) -> Tool:
            tool = Tool(
                function=function,
                category=self.name,
                read_only=read_only,
                title=title,
                timeout_s=timeout_s,
                raw_input_schema=input_schema,
            )
            self.tools.append(tool)
            return tool

        return declare

    def resource(
        self,
        uri: str,
        *,
        mime_type: str = "application/json",
        title: str | None = None,
        requires: tuple[str, ...] = (),
        complete: Mapping[str, Completer] | None = None,
    ) -> Callable[[Callable[..., Awaitable[Any]]], Resource]:
        """Declare a resource, or a template where the URI has `{variables}`. Raises `TypeError`."""

        def declare(function: Callable[..., Awaitable[Any]]) -> Resource:
            resource = Resource(function, uri, self.name, mime_type, title, requires, complete or {})
            self.resources.append(resource)
            return resource

        return declare

    def prompt(
        self, *, title: str | None = None, complete: Mapping[str, Completer] | None = None
    ) -> Callable[[Callable[..., Awaitable[Messages]]], Prompt]:
        """Declare a prompt: a typed async function that returns a text or messages. Raises `TypeError`."""

        def declare(function: Callable[..., Awaitable[Messages]]) -> Prompt:
            prompt = Prompt(function, self.name, title, complete or {})
            self.prompts.append(prompt)
            return prompt

        return declare
