"""A process that admits and records calls until it is killed; `test_kill.py` runs it."""

from __future__ import annotations

import asyncio
import os
import sys

from redis.asyncio import Redis

from mercato.server.usage import UsageLedger
from mercato.tenancy.database import Database
from tests.server.usage.conftest import call


async def main(database_url: str, redis_url: str, tenant_id: int) -> None:
    redis = Redis.from_url(redis_url)
    ledger = UsageLedger(Database(database_url, pool_size=2), redis, redis_url)
    ledger.start()
    while not ledger._admissions._line.is_open():
        await asyncio.sleep(0.01)
    while True:
        call(ledger, tenant_id)
        ledger.push()
        os.write(1, b".")  # the answer, of which a client can say that it saw it
        await asyncio.sleep(0.0005)


asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
