"""Bringing schemas up to date: together, again, in part, and back to nothing. Each test has a database of its own."""

from __future__ import annotations

import secrets
import subprocess
import sys
from urllib.parse import urlsplit, urlunsplit

import anyio
import asyncpg
import pytest
import sqlalchemy as sa

from mercato.migrations import runner
from mercato.migrations.runner import CORE, drop, fingerprint, upgrade

VERSION = '''"""{docstring}"""

from alembic import op

revision, down_revision = "{revision}", {down}


def upgrade():
    {body}
'''


@pytest.fixture
async def url(mercato_addresses, runtime):
    """The address of an empty database, in the cluster that the roles are in."""
    name = f"empty_{secrets.token_hex(4)}"
    owner = await asyncpg.connect(mercato_addresses.database_url)
    parts = urlsplit(mercato_addresses.database_url)
    superuser = await asyncpg.connect(
        urlunsplit(parts._replace(netloc=parts.netloc.replace("mercato_owner", "postgres")))
    )
    await superuser.execute(f"create database {name} owner {await owner.fetchval('select current_user')}")
    yield urlunsplit(parts._replace(path=f"/{name}"))
    await superuser.execute(f"drop database {name} with (force)")
    await superuser.close()
    await owner.close()


@pytest.fixture
def versions(tmp_path):
    """Write the versions of a plugin: `versions("probe", "op.execute(…)", …)` returns their folder."""

    def write(name, *bodies):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        for number, body in enumerate(bodies, 1):
            down = f'"{number - 1:04}"' if number > 1 else "None"
            text = VERSION.format(docstring=name, revision=f"{number:04}", down=down, body=body)
            (folder / f"{number:04}_{name}.py").write_text(text)
        return folder

    return write


async def tables(url, schema):
    connection = await asyncpg.connect(url)
    try:
        found = await connection.fetch("select tablename from pg_tables where schemaname = $1", schema)
        return {row["tablename"] for row in found} - {"schema_version", "schema_fingerprint"}
    finally:
        await connection.close()


def outcome(results):
    return {result.schema: (result.changed, result.error is not None) for result in results}


async def test_the_first_upgrade_makes_all_and_the_second_nothing(url, versions):
    probe = versions("probe", 'op.execute("create table probe.one (id int)")')
    assert outcome(await upgrade(url, {"probe": probe})) == {CORE: (True, False), "probe": (True, False)}
    assert outcome(await upgrade(url, {"probe": probe})) == {CORE: (False, False), "probe": (False, False)}
    assert await tables(url, "probe") == {"one"}


async def test_a_second_upgrade_does_not_even_import_alembic(url):
    await upgrade(url, {})
    program = (
        "import asyncio, sys; from mercato.migrations.runner import upgrade;"
        f"asyncio.run(upgrade({url!r}, {{}})); print('alembic' in sys.modules)"
    )
    done = await anyio.run_process([sys.executable, "-c", program], check=True, stderr=subprocess.PIPE)
    assert done.stdout == b"False\n"


async def test_a_new_version_is_applied_on_top(url, versions):
    bodies = ['op.execute("create table probe.one (id int)")', 'op.execute("create table probe.two (id int)")']
    await upgrade(url, {"probe": versions("probe", bodies[0])})
    assert outcome(await upgrade(url, {"probe": versions("probe", *bodies)}))["probe"] == (True, False)
    assert await tables(url, "probe") == {"one", "two"}


async def test_a_plugin_whose_second_version_fails_keeps_its_first_whole_and_leaves_the_others(url, versions):
    first, broken = 'op.execute("create table bad.one (id int)")', 'op.execute("create table bad.one (id int)")'
    await upgrade(url, {"bad": versions("bad", first)})
    plugins = {
        "bad": versions("bad", first, broken),
        "good": versions("good", 'op.execute("create table good.one (id int)")'),
    }
    assert outcome(await upgrade(url, plugins)) == {
        CORE: (False, False),
        "bad": (False, True),
        "good": (True, False),
    }
    assert await tables(url, "bad") == {"one"}
    assert await tables(url, "good") == {"one"}
    # Longer than before: what Python compiled of a file is good until its second of change or its length differ.
    versions("bad", first, 'op.execute("create table bad.two (id int, mended boolean)")')
    assert outcome(await upgrade(url, plugins))["bad"] == (True, False)
    assert await tables(url, "bad") == {"one", "two"}


async def test_several_processes_that_start_at_once_upgrade_once(url, versions):
    plugins = {"probe": versions("probe", 'op.execute("create table probe.one (id int)")')}
    results = []

    async def start():
        results.append(outcome(await upgrade(url, plugins)))

    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(start)
    assert sorted(result["probe"] for result in results) == [(False, False)] * 3 + [(True, False)]
    assert sorted(result[CORE] for result in results) == [(False, False)] * 3 + [(True, False)]


async def test_an_upgrade_waits_only_so_long_for_another(url, monkeypatch):
    monkeypatch.setattr(runner, "_LOCK_TIMEOUT", "100ms")
    other = await asyncpg.connect(url)
    await other.execute(f"select pg_advisory_lock({runner._LOCK})")
    with pytest.raises(sa.exc.DBAPIError, match="lock timeout"):
        await upgrade(url, {})
    await other.close()
    assert outcome(await upgrade(url, {})) == {CORE: (True, False)}


async def test_dropping_a_plugin_leaves_no_trace_and_it_can_come_back(url, versions):
    plugins = {"probe": versions("probe", 'op.execute("create table probe.one (id int)")')}
    await upgrade(url, plugins)
    assert await drop(url, "probe") is True
    assert await drop(url, "probe") is False
    assert await tables(url, "probe") == set()
    assert outcome(await upgrade(url, plugins))["probe"] == (True, False)
    assert await tables(url, "probe") == {"one"}


@pytest.mark.parametrize("schema", [CORE, "public", "pg_catalog", "information_schema", 'x"; drop schema mercato', ""])
async def test_what_is_no_plugins_schema_is_not_dropped(url, schema):
    await upgrade(url, {})
    with pytest.raises(ValueError, match="no plugin's schema"):
        await drop(url, schema)
    assert "tenants" in await tables(url, CORE)


async def test_a_failure_of_the_core_is_raised(url, versions, monkeypatch):
    monkeypatch.setattr(runner, "CORE_VERSIONS", versions("core", 'op.execute("nonsense")'))
    with pytest.raises(sa.exc.DBAPIError, match="nonsense"):
        await upgrade(url, {"probe": versions("probe", 'op.execute("create table probe.one (id int)")')})
    assert await tables(url, "probe") == set()


def test_a_fingerprint_tells_names_and_contents_apart(versions, tmp_path):
    one = fingerprint(versions("one", "pass"))
    assert fingerprint(tmp_path / "one") == one
    (tmp_path / "one" / "0002_more.py").write_text("")
    assert fingerprint(tmp_path / "one") != one
    assert len({one, fingerprint(versions("two", "pass"))}) == 2


async def test_a_tenants_table_that_is_not_protected_is_refused_wholly(url, versions):
    bare = 'op.execute("create table bare.things (tenant_id bigint, id bigint)")'
    good = 'op.execute("create table good.things (id bigint)")'
    results = {
        result.schema: result
        for result in await upgrade(url, {"bare": versions("bare", bare), "good": versions("good", good)})
    }
    assert "bare.things has tenant_id but is not protected" in str(results["bare"].error)
    assert results["good"].error is None
    assert await tables(url, "bare") == set()
