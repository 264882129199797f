"""The package's own sources, read as syntax trees: for the tests of what they may contain."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import mercato

ROOT = Path(mercato.__file__).parent.parent


@dataclass(frozen=True)
class Source:
    """One module of `mercato/`."""

    path: Path

    @property
    def name(self) -> str:
        """Its path from the repository's root."""
        return self.path.relative_to(ROOT).as_posix()

    @property
    def module(self) -> str:
        """Its dotted name; that of its package for an `__init__`."""
        parts = self.path.relative_to(ROOT).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @cached_property
    def imports(self) -> set[str]:
        """What of ours it imports: modules, and names as `module.name` where they are taken from one."""
        found = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
        return {name for name in found if name.partition(".")[0] == "mercato"}

    @property
    def part(self) -> str:
        """Its part of the map: `tools`, `server`, `plugins` for the files of the plugin system, `plugin:commerce`."""
        parts = self.path.relative_to(ROOT / "mercato").parts
        if len(parts) == 1:
            return parts[0].removesuffix(".py")
        if parts[0] == "plugins" and len(parts) > 2:
            return f"plugin:{parts[1]}"
        return parts[0]


@cache
def sources() -> tuple[Source, ...]:
    """Every module of the package."""
    return tuple(Source(path) for path in sorted((ROOT / "mercato").rglob("*.py")))


@cache
def built_ins() -> tuple[str, ...]:
    """The names of the plugins that come with mercato, sorted."""
    names = {source.part.removeprefix("plugin:") for source in sources() if source.part.startswith("plugin:")}
    return tuple(sorted(names))


def functions(source: Source) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function and method of a module."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
