"""Silence: the other end of a plain call, which is told nothing meanwhile."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mercato.tools.context import Handover
from mercato.tools.schema import Schema


class Silent:
    """A client that is told nothing meanwhile and cannot be asked: what a plain call has at its other end."""

    can_ask = False

    async def ask(self, key: str, message: str, schema: Schema) -> Mapping[str, Any] | None:
        """Leave the call to a channel that can ask, or can say that it cannot."""
        raise Handover

    async def progress(self, done: float, total: float | None, message: str | None) -> None:
        """Tell nobody: no token was given."""


class SilentAsker(Silent):
    """One that can be asked, by the application."""

    can_ask = True


SILENT, SILENT_ASKER = Silent(), SilentAsker()
