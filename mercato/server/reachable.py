"""Whether the engines outside can be used at all: asked once, at start, with an answer that a person can act on."""

from __future__ import annotations

from urllib.parse import urlsplit

import asyncpg
from redis.asyncio import Redis
from redis.exceptions import RedisError

from mercato.server.engines import EngineError
from mercato.tenancy.database import OLDEST_POSTGRES

_TIMEOUT_S = 10


async def check_database(url: str) -> str:
    """Return the server's version. Raises `EngineError` where it does not answer or is too old."""
    if not url.startswith(("postgresql", "postgres")) or "://" not in url:
        raise EngineError("DATABASE_URL cannot be used: it must begin with postgresql://.")
    try:
        connection = await asyncpg.connect(_plain(url), timeout=_TIMEOUT_S)
    except (OSError, TimeoutError, asyncpg.PostgresError, ValueError) as error:
        reason = str(error) or type(error).__name__
        raise EngineError(f"PostgreSQL at {_place(url)} does not answer ({reason}): check DATABASE_URL.") from None
    try:
        version = connection.get_server_version()
    finally:
        await connection.close()
    if version.major < OLDEST_POSTGRES:
        raise EngineError(
            f"PostgreSQL at {_place(url)} is version {version.major}: {OLDEST_POSTGRES} or newer is needed."
        )
    return f"{version.major}.{version.minor}"


async def may_migrate(url: str) -> bool:
    """Whether the user of this URL can bring the tables up to date: make schemas, and roles or have them."""
    connection = await asyncpg.connect(_plain(url), timeout=_TIMEOUT_S)
    try:
        answer: bool = await connection.fetchval(
            "select has_database_privilege(current_database(), 'create') and (select rolcreaterole or rolsuper"
            " or (select count(*) = 2 from pg_roles where rolname in ('mercato_app', 'mercato_system'))"
            " from pg_roles where rolname = current_user)"
        )
        return answer
    finally:
        await connection.close()


async def check_redis(url: str) -> str:
    """Return the server's version. Raises `EngineError` where it does not answer."""
    try:
        redis = Redis.from_url(url, socket_connect_timeout=_TIMEOUT_S, socket_timeout=_TIMEOUT_S)
    except ValueError:
        raise EngineError("REDIS_URL cannot be used: it must begin with redis://, rediss:// or unix://.") from None
    try:
        info = await redis.info("server")
    except (RedisError, OSError) as error:
        raise EngineError(f"Redis at {_place(url)} does not answer ({error}): check REDIS_URL.") from None
    finally:
        await redis.aclose()
    return str(info.get("valkey_version") or info["redis_version"])


def _plain(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme.partition('+')[0]}://{rest}"


def _place(url: str) -> str:
    """Return where it is, without user and password."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port}" if parts.port else (parts.hostname or "its socket")
