"""Catalog: what all plugins declared, and the one gate through which it is listed and called alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cached_property
from typing import Any

from mercato.plugins import surface as surfaces
from mercato.plugins.category import Category
from mercato.plugins.manager import Plugin
from mercato.plugins.search import Index
from mercato.prompts.prompt import Prompt
from mercato.resources.resource import Resource
from mercato.tenancy.access import Access
from mercato.tenancy.assistant import Surface
from mercato.tenancy.principal import READ, WRITE, Principal
from mercato.tenancy.reach import EVERYTHING, Reach
from mercato.tools.errors import NotConnected, SwitchedOff
from mercato.tools.tool import Tool

_INSTRUCTIONS_LENGTH = 500


class Unknown(LookupError):
    """There is no such thing, or it is not for this role: the caller cannot tell which."""


class ScopeMissing(Exception):  # reads as what it says
    """The credential lacks a scope that its owner may grant."""

    def __init__(self, scope: str) -> None:
        super().__init__(f"This needs the scope `{scope}`, which the credential lacks.")
        self.scope = scope


class Catalog:
    """Everything declared, by name; frozen when the plugins are loaded."""

    def __init__(self, plugins: Iterable[Plugin]) -> None:
        self.plugins = tuple(plugins)
        self.categories = {category.name: category for plugin in self.plugins for category in plugin.categories}
        self.tools = {tool.name: tool for category in self.categories.values() for tool in category.tools}
        self.aliases = {alias: tool for tool in self.tools.values() for alias in tool.aliases}
        self.surface_tools = surfaces.surface_tools(self.tools.values())
        self.prompts = {prompt.name: prompt for category in self.categories.values() for prompt in category.prompts}
        self.resources = [resource for category in self.categories.values() for resource in category.resources]
        self._fixed = {resource.uri: resource for resource in self.resources if not resource.is_template}
        self._templates = [resource for resource in self.resources if resource.is_template]

    def visible_to(self, principal: Principal, access: Access, reach: Reach = EVERYTHING) -> Visible:
        """Return the catalogue as one caller sees it, at an address of some reach. Costs nothing until it is asked."""
        return Visible(self, principal, access, reach)

    @cached_property
    def index(self) -> Index:
        """The words of every tool; made at the first search."""
        return Index(self.tools.values())

    def tool(self, name: str) -> Tool | None:
        """Return the tool of this name, or that had it before."""
        return self.tools.get(name) or self.aliases.get(name)

    def resource(self, uri: str) -> tuple[Resource, dict[str, str]] | None:
        """Return the resource that answers a URI, with the template's variables."""
        if fixed := self._fixed.get(uri):
            return fixed, {}
        for template in self._templates:
            if (variables := template.match(uri)) is not None:
                return template, variables
        return None


@dataclass(frozen=True, slots=True)
class Visible:
    """The catalogue as one caller sees it. Listing and calling ask the same question, so they cannot drift."""

    catalog: Catalog
    principal: Principal
    access: Access
    reach: Reach = EVERYTHING
    surface: Surface = "full"

    def on(self, surface: Surface) -> Visible:
        """Return the same, listed as on a surface."""
        return self if surface == self.surface else replace(self, surface=surface)

    def listed(self) -> Iterator[Tool]:
        """Yield the tools that `tools/list` shows on this surface."""
        return surfaces.listed(self) if self.surface == "search" else self.tools()

    def resolve(self, name: str, arguments: Mapping[str, Any]) -> tuple[Tool, Mapping[str, Any]]:
        """Return the tool that a call by this name runs, and with what: on the search surface, what is executed.

        Raises as `tool` does, and `ToolError` where what is executed is none for it.
        """
        if self.surface == "search":
            return surfaces.resolve(self, name, arguments)
        return self.tool(name), arguments

    def tools(self) -> Iterator[Tool]:
        """Yield the tools that can be called now."""
        return (tool for tool in self.catalog.tools.values() if self._refusal(tool) is None)

    def tool(self, name: str) -> Tool:
        """Return a tool to call. Raises `Unknown`, `ScopeMissing`, `SwitchedOff` or `NotConnected`."""
        tool = self.catalog.tool(name)
        if tool is None:
            raise Unknown(f"There is no tool {name!r}.{self._nearest(name)}")
        if (refusal := self._refusal(tool)) is not None:
            raise refusal
        return tool

    def _nearest(self, name: str) -> str:
        """Return a hint at the tool that was meant; only at one that the caller may see."""
        near = get_close_matches(name[:64], [tool.name for tool in self.tools()], 1)
        return f" Did you mean `{near[0]}`?" if near else ""

    def prompts(self) -> Iterator[Prompt]:
        """Yield the prompts that can be had now."""
        return (prompt for prompt in self.catalog.prompts.values() if self._reading_refusal(prompt.category) is None)

    def prompt(self, name: str) -> Prompt:
        """Return a prompt. Raises as `tool` does."""
        prompt = self.catalog.prompts.get(name)
        if prompt is None:
            raise Unknown(f"There is no prompt {name!r}.")
        if (refusal := self._reading_refusal(prompt.category)) is not None:
            raise refusal
        return prompt

    def resources(self) -> Iterator[Resource]:
        """Yield the resources and templates that can be read now."""
        return (resource for resource in self.catalog.resources if self._resource_refusal(resource) is None)

    def resource(self, uri: str) -> tuple[Resource, dict[str, str]]:
        """Return the resource that answers a URI, with its variables. Raises as `tool` does."""
        found = self.catalog.resource(uri)
        if found is None:
            raise Unknown(f"There is no resource {uri!r}.")
        if (refusal := self._resource_refusal(found[0])) is not None:
            raise refusal
        return found

    def instructions(self) -> str:
        """Return what assistants read first: who this is for, and the categories at hand, in 500 characters."""
        names = [category for category in self.catalog.categories.values() if self._open(category)]
        text = f"mercato runs the commerce business of {self.access.tenant.name}. "
        if self.surface == "search":
            text += surfaces.INSTRUCTIONS
        text += "Money is in minor units with its currency; times are UTC with the zone said. "
        for category in names:
            sentence = f"{category.name}: {category.description} "
            if len(text) + len(sentence) <= _INSTRUCTIONS_LENGTH:
                text += sentence
        return text.strip()[:_INSTRUCTIONS_LENGTH]

    def _open(self, category: Category) -> bool:
        return self._category_refusal(category.name) is None

    def _refusal(self, tool: Tool) -> Exception | None:
        """Say why not, or None. The order matters: what a caller may not know of comes first."""
        if (tool.admin and not self.principal.role.administers) or not (tool.read_only or self.principal.role.writes):
            return Unknown(f"There is no tool {tool.name!r}.")
        if (self.reach.read_only and not tool.read_only) or not self.reach.holds(tool.category):
            return Unknown(f"There is no tool {tool.name!r} at this address.")
        needed = READ if tool.read_only else WRITE
        if needed not in self.principal.scopes:
            return ScopeMissing(needed)
        if (refusal := self._category_refusal(tool.category)) is not None:
            return refusal
        if tool.name in self.access.disabled_tools:
            return SwitchedOff(
                f"{self.access.tenant.name} has switched the tool `{tool.name}` off.",
                next_step=f"An owner or admin can switch it on: `mercato tool enable {tool.name} {self._where}`.",
            )
        return self._connection_refusal(tool.requires)

    def _category_refusal(self, category: str) -> Exception | None:
        if not self.reach.holds(category):
            return Unknown(f"There is no category {category!r} at this address.")
        if READ not in self.principal.scopes and WRITE not in self.principal.scopes:
            return ScopeMissing(READ)
        if category not in self.access.categories:
            return SwitchedOff(
                f"{self.access.tenant.name} has switched the category `{category}` off.",
                next_step=f"An owner or admin can switch it on: `mercato category enable {category} {self._where}`.",
            )
        if not self.principal.covers(category):  # last: a person who is asked can only grant what is on
            return ScopeMissing(category)
        return None

    def _reading_refusal(self, category: str) -> Exception | None:
        if READ not in self.principal.scopes:
            return ScopeMissing(READ)
        return self._category_refusal(category)

    def _resource_refusal(self, resource: Resource) -> Exception | None:
        return self._reading_refusal(resource.category) or self._connection_refusal(resource.requires)

    def _connection_refusal(self, requires: tuple[str, ...]) -> NotConnected | None:
        for integration in requires:
            if integration not in self.access.integrations:
                return NotConnected(
                    f"{self.access.tenant.name} has not connected {integration}.",
                    next_step=f"An owner or admin connects {integration} in the console; then call again.",
                )
        return None

    @property
    def _where(self) -> str:
        return f"--tenant {self.access.tenant.slug}"
