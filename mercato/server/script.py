"""Scripts that run inside Redis, so that what they look at and what they change is one step."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError

Argument = str | bytes | int


class Script:
    """One Lua file. It is called by its digest, and sent whole where Redis does not know it (any more)."""

    def __init__(self, redis: Redis, path: Path) -> None:
        self._redis = redis
        self._text = path.read_text(encoding="utf-8")
        self._sha = hashlib.sha1(self._text.encode(), usedforsecurity=False).hexdigest()

    async def __call__(self, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        """Run it in one round trip."""
        given: list[Any] = [*keys, *arguments]
        try:
            return await self._redis.evalsha(self._sha, len(keys), *given)  # type: ignore[misc]  # typed for both clients
        except NoScriptError:
            return await self._redis.eval(self._text, len(keys), *given)  # type: ignore[misc]  # typed for both clients
