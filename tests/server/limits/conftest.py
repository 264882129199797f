from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis

from mercato.server.limits import Limiter, script
from mercato.server.limits import limiter as module
from mercato.server.runtime import Addresses, Runtime
from tests.server.limits.world import Clock


class Line:
    """A way to Redis that can be cut and mended."""

    def __init__(self, path: Path, behind: str) -> None:
        self.path, self.behind = path, behind
        self.redis = Redis.from_url(f"unix://{path}", socket_connect_timeout=5)

    def mend(self) -> None:
        os.symlink(self.behind, self.path)

    async def cut(self) -> None:
        self.path.unlink()
        await self.redis.connection_pool.disconnect()


@pytest.fixture(autouse=True, scope="module")
def patient() -> Iterator[None]:
    """Redis is given time: a machine that is busy with something else is no outage."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(script, "_TIMEOUT_S", 5)
        yield


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def limiter(runtime: Runtime) -> AsyncIterator[Limiter]:
    made = Limiter(runtime.redis)
    yield made
    await made.close()


@pytest.fixture
async def line(mercato_addresses: Addresses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Line]:
    """A line that is whole; who is cut off tries again soon."""
    monkeypatch.setattr(module, "_RETRY_S", 0.01)
    made = Line(tmp_path / "redis.sock", urlsplit(mercato_addresses.redis_url).path)
    made.mend()
    yield made
    await made.redis.aclose()


@pytest.fixture
async def remote(line: Line) -> AsyncIterator[Limiter]:
    """A limiter at the end of the line."""
    made = Limiter(line.redis)
    yield made
    await made.close()
