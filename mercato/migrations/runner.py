"""Applies migrations: the core's first, then each plugin's, so that one that fails leaves the others alone.

Each plugin's versions are an Alembic branch of their own with a version table in the plugin's own schema: dropping
the schema removes all trace of it, and versions that cannot even be read concern nobody else. A fingerprint of the
version files is kept beside it, so that a start with nothing to do need not import Alembic.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

CORE = "mercato"
CORE_VERSIONS = Path(__file__).parent / "versions"
ROLES = ("mercato_app", "mercato_system")
_LOCK = 0x6D65726361746F  # "mercato"
_LOCK_TIMEOUT = "60s"


@dataclass(frozen=True, slots=True)
class Upgraded:
    """What became of one schema: None where it was up to date, or the error that stopped it."""

    schema: str
    changed: bool = False
    error: BaseException | None = None


async def upgrade(url: str, plugins: Mapping[str, Path]) -> list[Upgraded]:
    """Bring every schema up to date under an advisory lock, so that replicas may start together.

    Raises what the core's own migration raises; a plugin's error is returned instead.
    """
    engine = create_async_engine(make_url(url).set(drivername="postgresql+asyncpg"), poolclass=sa.NullPool)
    try:
        async with engine.connect() as lock:
            await _lock(lock)
            async with engine.begin() as connection:
                await _roles(connection)
            results = [await _upgrade_one(engine, CORE, CORE_VERSIONS)]
            if results[0].error is not None:
                raise results[0].error
            results += [await _upgrade_one(engine, name, path) for name, path in plugins.items()]
            return results
    finally:
        await engine.dispose()


async def drop(url: str, schema: str) -> bool:
    """Remove a plugin's schema with all it holds; return whether there was one.

    Raises `ValueError` for a schema that no migration of ours has made.
    """
    if schema in {CORE, "public"} or not schema.isidentifier():
        raise ValueError(f"{schema!r} is no plugin's schema")
    engine = create_async_engine(make_url(url).set(drivername="postgresql+asyncpg"), poolclass=sa.NullPool)
    try:
        async with engine.begin() as connection:
            await _lock(connection, transaction=True)
            there = await connection.scalar(sa.text("select to_regnamespace(:schema) is not null"), {"schema": schema})
            if there:
                if await _recorded(connection, schema) is None:
                    raise ValueError(f"{schema!r} is no plugin's schema")
                await connection.execute(sa.text(f'drop schema "{schema}" cascade'))
            return bool(there)
    finally:
        await engine.dispose()


def fingerprint(versions: Path) -> str:
    """Return a digest of the version files: names and contents."""
    digest = hashlib.sha256()
    for path in sorted(versions.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


async def _lock(connection: AsyncConnection, *, transaction: bool = False) -> None:
    await connection.execute(sa.text(f"set lock_timeout = '{_LOCK_TIMEOUT}'"))
    function = "pg_advisory_xact_lock" if transaction else "pg_advisory_lock"
    await connection.execute(sa.text(f"select {function}({_LOCK})"))
    if not transaction:
        await connection.commit()  # a session's lock outlives the transaction; an open one would hold snapshots


async def _roles(connection: AsyncConnection) -> None:
    for role in ROLES:
        there = await connection.scalar(sa.text("select 1 from pg_roles where rolname = :role"), {"role": role})
        if not there:
            await connection.execute(sa.text(f"create role {role} nologin nosuperuser nobypassrls"))
        member = await connection.scalar(sa.text("select pg_has_role(current_user, :role, 'set')"), {"role": role})
        if not member:
            await connection.execute(sa.text(f"grant {role} to current_user with set true"))
    # Imports stage their rows in temporary tables; everybody may make those unless somebody has revoked it.
    database = await connection.scalar(sa.text("select quote_ident(current_database())"))
    allowed = await connection.scalar(
        sa.text("select has_database_privilege(:role, current_database(), 'temp')"), {"role": ROLES[0]}
    )
    if not allowed:
        await connection.execute(sa.text(f"grant temporary on database {database} to {ROLES[0]}"))


async def _upgrade_one(engine: Any, schema: str, versions: Path) -> Upgraded:
    try:
        async with engine.begin() as connection:
            wanted = fingerprint(versions)
            if await _recorded(connection, schema) == wanted:
                return Upgraded(schema)
            await connection.execute(sa.text(f'create schema if not exists "{schema}"'))
            await connection.run_sync(_run_alembic, schema, versions)
            await _check_protected(connection, schema)
            await _record(connection, schema, wanted)
            return Upgraded(schema, changed=True)
    except (Exception, SystemExit) as error:  # noqa: BLE001  # the edge: a plugin's versions may raise anything
        return Upgraded(schema, error=error)


async def _check_protected(connection: AsyncConnection, schema: str) -> None:
    """Refuse a schema with a tenant's table that is not protected. Raises `ValueError`, which names it."""
    bare = await connection.scalar(
        sa.text(
            "select c.relname from pg_class c join pg_attribute a on a.attrelid = c.oid"
            " where c.relnamespace = to_regnamespace(:schema) and c.relkind in ('r', 'p')"
            " and a.attname = 'tenant_id' and not a.attisdropped and not (c.relrowsecurity and c.relforcerowsecurity)"
            " order by 1 limit 1"
        ),
        {"schema": f'"{schema}"'},
    )
    if bare is not None:
        raise ValueError(f"the table {schema}.{bare} has tenant_id but is not protected: call protect_tenant_rows")


def _run_alembic(connection: sa.Connection, schema: str, versions: Path) -> None:
    from alembic import command

    command.upgrade(alembic_config(connection, schema, versions), "head")


def alembic_config(connection: sa.Connection, schema: str, versions: Path, metadata: Any = None) -> Any:
    """Return Alembic's configuration for one schema's versions, over an open connection."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", str(versions).replace("%", "%%"))
    config.attributes.update(connection=connection, schema=schema, metadata=metadata)
    return config


async def _recorded(connection: AsyncConnection, schema: str) -> str | None:
    table = await connection.scalar(sa.text("select to_regclass(:name)"), {"name": f'"{schema}".schema_fingerprint'})
    if table is None:
        return None
    recorded: str | None = await connection.scalar(sa.text(f'select digest from "{schema}".schema_fingerprint'))
    return recorded


async def _record(connection: AsyncConnection, schema: str, digest: str) -> None:
    table = f'"{schema}".schema_fingerprint'
    await connection.execute(sa.text(f"create table if not exists {table} (digest text not null)"))
    await connection.execute(sa.text(f"delete from {table}"))
    await connection.execute(sa.text(f"insert into {table} values (:digest)"), {"digest": digest})
