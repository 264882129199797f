"""Conformance: what the official MCP conformance suite expects a server to have, as a plugin from outside.

What mercato's own API can say is said in it; the rest are raw tools, which speak the SDK's types.
"""

from __future__ import annotations

from mercato import Category, hookimpl
from mercato_conformance import background, content, prompts, questions, requests, resources, schemas, signals  # noqa: F401
from mercato_conformance.category import conformance


@hookimpl
def register_categories() -> list[Category]:
    """Return the one category, to which the imported modules have added."""
    return [conformance]
