from __future__ import annotations

import pytest
from pydantic import BaseModel

from mercato import Category, ToolContext
from tests.inmemory import plugin


class Answer(BaseModel):
    text: str


@pytest.fixture
def probes():
    """Two plugins, `first` and `second`, each with a category of its name, one tool that reads and one that writes."""
    return [_probe(name) for name in ("first", "second")]


def _probe(name):
    category = Category(name, f"The {name} category.")

    async def read(ctx: ToolContext) -> Answer:
        """Read."""
        return Answer(text=name)

    async def write(ctx: ToolContext) -> Answer:
        """Write."""
        return Answer(text=name)

    read.__name__, write.__name__ = f"read_{name}", f"write_{name}"
    category.tool(read_only=True)(read)
    category.tool(read_only=False)(write)
    return plugin(name, register_categories=[category])
