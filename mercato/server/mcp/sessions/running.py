"""A request in flight in this process."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field

NO_STREAM = "-"

_numbers = itertools.count()


@dataclass(slots=True, eq=False)
class Running:
    """`request` is its id as JSON: 1 and "1" are two. `number` tells it from a later request of the same id."""

    session_id: str
    request: bytes
    cancel: Callable[[], None]
    stream: str = NO_STREAM
    is_registered: bool = False
    is_duplicate: bool = False
    """Whether it was cancelled because another request of its id turned out to be in flight."""
    is_over: bool = False
    began: float = field(default_factory=time.monotonic)
    number: int = field(default_factory=lambda: next(_numbers))
    registering: asyncio.Lock = field(default_factory=asyncio.Lock)
