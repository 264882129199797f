"""Completer: offers values of an argument while somebody types it; resources and prompts may have one for each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

Completer = Callable[[Any, str], Awaitable[Sequence[str]]]
"""Takes the context and what was typed so far."""
