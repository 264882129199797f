"""What the replicas share: engines, the plugin, two tenants with a key each; and what is stored in the end."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import sqlalchemy as sa
from redis.asyncio import Redis

from mercato.server.engines import Engines
from mercato.server.usage import admitted_on
from mercato.tenancy.database import Database
from mercato.tenancy.rows import utc_now

TENANTS = ("acme", "globex")
_PLUGIN = Path(__file__).parent / "plugin"
_LIMITS = ("tenant", "caller", "read", "write", "heavy", "lists")
_RAISED = "1000000"


@dataclass(frozen=True, slots=True)
class Shop:
    """A tenant, and a key of it."""

    id: int
    slug: str
    key: str


@dataclass(frozen=True, slots=True)
class Stored:
    """What is left of one tenant's calls: records, admissions, and how often each note is there."""

    records: int
    admissions: int
    notes: dict[str, int]


def install_plugin(site: Path) -> None:
    """Lay the plugin down, where this process finds it too."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", site, _PLUGIN], check=True, stdin=subprocess.DEVNULL, timeout=120)
    sys.path.insert(0, str(site))


@contextmanager
def engines_in(data_dir: Path, *, durable: bool = False) -> Iterator[Engines]:
    """Hold the engines that all processes join. Only durable ones keep what they acknowledged when they are killed."""
    engines = Engines(data_dir, durable=durable)
    engines.start()
    try:
        engines.wait()
        yield engines
    finally:
        engines.stop()


async def make_shops(data_dir: Path, engines: Engines) -> list[Shop]:
    """Make the tables, the tenants and their keys."""
    from mercato.server.runtime import Addresses, open_runtime
    from mercato.server.settings import Settings
    from mercato.tenancy.keys import EVERY_SCOPE, create_key
    from mercato.tenancy.onboarding import find_owner, onboard_tenant

    addresses, shops = Addresses(engines.database_url, engines.redis_url), []
    settings = Settings(data_dir=data_dir, log_level="warning")
    async with open_runtime(settings, addresses, strict=True) as runtime:
        for slug in TENANTS:
            owner = f"owner@{slug}.example"
            tenant = await onboard_tenant(
                runtime.database, slug, slug.title(), owner_email=owner, categories=["chaos", "system"]
            )
            principal = await find_owner(runtime.database, tenant)
            async with runtime.database.tenant(tenant.id) as db:
                _, key = await create_key(db, principal, "chaos", [EVERY_SCOPE], None)
            shops.append(Shop(tenant.id, slug, key))
    return shops


def environment(data_dir: Path, site: Path, port: int) -> dict[str, str]:
    """Return the environment of the replicas: one address for all, and limits that nobody reaches."""
    limits = {f"MERCATO_LIMIT_{name.upper()}": _RAISED for name in _LIMITS}
    ours = {
        "MERCATO_DATA_DIR": str(data_dir),
        "MERCATO_PUBLIC_URL": f"http://127.0.0.1:{port}",
        "MERCATO_LOG_LEVEL": "warning",
        "PYTHONPATH": os.pathsep.join(filter(None, (str(site), os.environ.get("PYTHONPATH")))),
    }
    return {**os.environ, **limits, **ours}


async def stored(engines: Engines, shop: Shop) -> Stored:
    """Count what is there."""
    async with _opened(engines) as (database, redis):
        async with database.tenant(shop.id) as db:
            connection = await db.session.connection()
            records = await connection.scalar(sa.text("select count(*) from mercato.usage"))
            notes = await connection.execute(sa.text("select text, count(*) from chaos.notes group by text"))
            counted = {text: int(count) for text, count in notes}
        today = utc_now().date()
        admitted = await admitted_on(redis, shop.id, [today - timedelta(days=1), today])
    return Stored(int(records or 0), sum(admitted.values()), counted)


@asynccontextmanager
async def _opened(engines: Engines) -> AsyncIterator[tuple[Database, Redis]]:
    database, redis = Database(engines.database_url), Redis.from_url(engines.redis_url)
    try:
        yield database, redis
    finally:
        await redis.aclose()
        await database.close()
