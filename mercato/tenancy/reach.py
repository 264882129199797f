"""Reach: the part of the catalogue that an address is for, whoever calls there."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reach:
    """What can be reached at all: only what reads, and only some categories. None means every category."""

    read_only: bool = False
    categories: frozenset[str] | None = None

    def holds(self, category: str) -> bool:
        """Whether a category is within it."""
        return self.categories is None or category in self.categories


EVERYTHING = Reach()
