"""A process that is killed once it has committed a write, and before anybody has its answer."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from mercato.server.mcp.delivery import Delivery
from mercato.server.runtime import Addresses, open_runtime
from mercato.server.settings import Settings
from mercato.tenancy.tenants import find_tenant
from tests.server.replays.replica import Replica
from tests.server.replays.tools import FOUND


async def main() -> None:
    """Make a call, and die."""
    settings = Settings(data_dir=Path(os.environ["KILLED_DATA"]))
    addresses = Addresses(os.environ["KILLED_DATABASE"], os.environ["KILLED_REDIS"])
    async with open_runtime(settings, addresses, found=[FOUND], strict=True) as runtime:
        tenant = await find_tenant(runtime.database, os.environ["KILLED_TENANT"])
        await Replica(runtime).call(tenant, name="killed", delivery=Delivery())
        os.kill(os.getpid(), signal.SIGKILL)
