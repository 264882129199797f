"""What a client lists and reads, and whether that is right."""

from __future__ import annotations

from dataclasses import dataclass

TOOL, LIMIT = "list_products", 1
VERSIONS = {"legacy": "2025-11-25", "auto": "2026-07-28"}
"""What a client of each mode speaks with a server that speaks both."""


@dataclass(frozen=True)
class Seen:
    """The tools that a client listed, and how many products it read; where it tells, its mode and version."""

    tools: frozenset[str]
    rows: int
    mode: str | None = None
    version: str | None = None

    def fault(self, expected: frozenset[str]) -> str | None:
        """Return what is not as it must be."""
        if self.tools != expected:
            return f"it lists {sorted(self.tools - expected)} too much, and {sorted(expected - self.tools)} not"
        if self.mode and self.version != VERSIONS[self.mode]:
            return f"it speaks {self.version}, not {VERSIONS[self.mode]}"
        return None if self.rows == LIMIT else f"it read {self.rows} products, not {LIMIT}"
