"""A site whose outside world is the test's: documents of clients are served there, at public addresses."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from starlette.applications import Starlette

from mercato.plugins.manager import discover
from mercato.server.app import create_app
from mercato.server.runtime import Addresses, open_runtime
from mercato.server.settings import Settings
from mercato.testing.outside import HttpRouter
from tests.server import probe
from tests.server.conftest import Site, listening

ADDRESS = "93.184.216.34"
"""What every name stands for out there."""


@dataclass
class Publisher:
    """Publishes documents under a host of its own."""

    router: HttpRouter
    host: str

    def publish(self, path: str, document: object) -> str:
        """Publish a document; return its URL."""
        self.router.on("GET", f"https://{ADDRESS}{path}", json=document)
        return f"https://{self.host}{path}"


@asynccontextmanager
async def site_with_outside(addresses: Addresses, data_dir: Path, router: HttpRouter) -> AsyncIterator[Site]:
    """Serve a site whose requests to the outside are answered by the router, and by nobody else."""

    async def resolve(*asked: object) -> Sequence[str]:
        return [ADDRESS]

    settings = Settings(data_dir=data_dir, log_level="warning")
    found = [*(one for one in discover() if one.built_in), probe.FOUND]

    def make(port: int) -> Starlette:
        return create_app(settings.model_copy(update={"port": port}), addresses, found=found)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("mercato.server.oauth.outside._resolve", resolve)
        patched.setattr("mercato.server.app.open_runtime", functools.partial(open_runtime, transport=router))
        async with listening(make) as opened:
            yield opened
