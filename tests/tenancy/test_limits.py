"""What a tenant may use: the deployment's limits, unless an operator has set others."""

from __future__ import annotations

from dataclasses import asdict

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError
from typer.testing import CliRunner

from mercato.server.cli import limit as module
from mercato.server.settings import Settings, SettingsError
from mercato.tenancy.access import load_access
from mercato.tenancy.audit import list_entries
from mercato.tenancy.errors import InvalidValue
from mercato.tenancy.limits import (
    BUDGET,
    MOST,
    NAMES,
    STANDARD,
    Limits,
    TenantLimits,
    read_own_limits,
    reset_limits,
    set_limit,
)

LARGE = Limits(tenant=1_000, caller=500, read=800, write=80, heavy=20, lists=900, cents_per_day=0)


async def limits_of(database, tenant, deployment=STANDARD):
    return (await load_access(database, tenant.id, deployment)).limits


async def own_of(database, tenant):
    async with database.tenant(tenant.id, read_only=True) as db:
        return await read_own_limits(db)


async def test_a_tenant_has_the_limits_of_the_deployment_until_it_has_its_own(database, tenant):
    assert await limits_of(database, tenant) is STANDARD
    assert await limits_of(database, tenant, LARGE) is LARGE
    await set_limit(database, tenant.id, "heavy", 3)
    await set_limit(database, tenant.id, "cents_per_day", 700)
    assert asdict(await limits_of(database, tenant, LARGE)) == {**asdict(LARGE), "heavy": 3, "cents_per_day": 700}


async def test_the_limits_of_one_tenant_are_nobody_elses(database, tenant, other_tenant):
    await set_limit(database, tenant.id, "tenant", 7)
    assert await limits_of(database, other_tenant) is STANDARD
    assert await own_of(database, other_tenant) == {}
    await reset_limits(database, other_tenant.id, NAMES)
    assert await own_of(database, tenant) == {"tenant": 7}


async def test_a_limit_is_set_again_and_reset_alone_or_with_the_others(database, tenant):
    for name, most in (("read", 1), ("read", 2), ("write", 3), ("lists", 4)):
        await set_limit(database, tenant.id, name, most)
    assert await own_of(database, tenant) == {"read": 2, "write": 3, "lists": 4}
    await reset_limits(database, tenant.id, ["read"])
    assert await own_of(database, tenant) == {"write": 3, "lists": 4}
    await reset_limits(database, tenant.id, NAMES)
    assert await own_of(database, tenant) == {}
    assert await limits_of(database, tenant) is STANDARD


async def test_the_servers_learn_of_a_limit_when_they_are_told(runtime, tenant):
    from mercato.server.changes import Change

    assert (await runtime.directory.access(tenant.id)).limits == runtime.settings.limits
    await set_limit(runtime.database, tenant.id, "write", 9)
    await runtime.changes.publish(Change("access", tenant.id))
    assert (await runtime.directory.access(tenant.id)).limits.write == 9


@pytest.mark.parametrize(
    ("name", "most", "said"),
    [
        ("nope", 1, "There is no limit 'nope'. Limits: tenant, caller, read, write, heavy, lists, cents_per_day."),
        ("tenant", 0, "from 1 to 1,000,000,000"),
        ("tenant", MOST + 1, "from 1 to 1,000,000,000"),
        (BUDGET, -1, "from 0 to 1,000,000,000"),
        ("tenant_id", 1, "There is no limit 'tenant_id'"),
    ],
)
async def test_what_cannot_be_a_limit_is_refused(database, tenant, name, most, said):
    with pytest.raises(InvalidValue, match=said):
        await set_limit(database, tenant.id, name, most)
    assert await own_of(database, tenant) == {}


async def test_what_is_no_limit_is_not_reset(database, tenant):
    with pytest.raises(InvalidValue, match="There is no limit 'id'"):
        await reset_limits(database, tenant.id, ["id"])


@pytest.mark.parametrize("name", [name for name in NAMES if name != BUDGET])
async def test_the_database_refuses_a_limit_of_nothing_too(database, tenant, name):
    with pytest.raises(IntegrityError, match=f"ck_tenant_limits_{name}"):
        async with database.system() as session:
            await session.exec(sa.insert(TenantLimits).values(tenant_id=tenant.id, **{name: 0}))


FORBIDDEN = {
    "insert": "insert into mercato.tenant_limits (tenant) values (1000000)",
    "update": "update mercato.tenant_limits set tenant = 1000000",
    "delete": "delete from mercato.tenant_limits",
}


@pytest.mark.parametrize("statement", FORBIDDEN.values(), ids=FORBIDDEN)
async def test_no_tool_changes_a_limit(database, tenant, statement):
    await set_limit(database, tenant.id, "tenant", 7)
    with pytest.raises(DBAPIError, match="permission denied"):
        async with database.tenant(tenant.id) as db:
            await (await db.session.connection()).execute(sa.text(statement))
    assert await own_of(database, tenant) == {"tenant": 7}


def test_the_standard_limits_go_together():
    assert max(STANDARD.caller, STANDARD.read, STANDARD.write, STANDARD.heavy) <= STANDARD.tenant
    assert STANDARD.heavy <= STANDARD.write <= STANDARD.read <= STANDARD.lists


def test_the_environment_sets_what_holds_for_all(monkeypatch):
    for number, name in enumerate(NAMES, 11):
        monkeypatch.setenv(f"MERCATO_LIMIT_{name.upper()}", str(number))
    assert asdict(Settings().limits) == {name: number for number, name in enumerate(NAMES, 11)}


@pytest.mark.parametrize(("name", "text"), [("TENANT", "0"), ("HEAVY", "many"), ("CENTS_PER_DAY", "-1")])
def test_a_limit_in_the_environment_that_cannot_be_is_named(monkeypatch, name, text):
    monkeypatch.setenv(f"MERCATO_LIMIT_{name}", text)
    with pytest.raises(SettingsError, match=f"MERCATO_LIMIT_{name}"):
        Settings()


@pytest.fixture
def command(runtime, monkeypatch):
    """Run `mercato limit` over the runtime of the tests; return what it says."""
    import json
    import threading

    import anyio

    def over_ours(settings, work):
        return anyio.from_thread.run(work, runtime)

    monkeypatch.setattr(module, "with_runtime", over_ours)
    monkeypatch.setattr(module, "read_settings", lambda _: runtime.settings)

    async def run(*arguments):
        invoke = lambda: CliRunner().invoke(module.app, list(arguments), catch_exceptions=False)  # noqa: E731
        done = await anyio.to_thread.run_sync(invoke)
        assert threading.current_thread() is threading.main_thread()
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout) if "--json" in arguments else done.stdout

    return run


async def test_the_command_shows_sets_and_resets_and_every_process_keeps_it(command, runtime, tenant):
    given = ("--tenant", tenant.slug)
    await runtime.directory.access(tenant.id)
    assert await command("set", "write", "9", *given, "--json") == {
        "limit": "write",
        "most": 9,
        "tenant": tenant.slug,
        "changed": True,
    }
    assert (await runtime.directory.access(tenant.id)).limits.write == 9
    shown = {row["limit"]: row for row in await command("show", *given, "--json")}
    assert shown["write"] == {"limit": "write", "most": 9, "per": "minute", "own": True}
    most = runtime.settings.limits.cents_per_day
    assert shown[BUDGET] == {"limit": BUDGET, "most": most, "per": "day", "own": False}
    assert "this tenant" in await command("show", *given)
    assert await command("reset", *given, "--json") == {"tenant": tenant.slug, "reset": ["write"]}
    assert (await runtime.directory.access(tenant.id)).limits == runtime.settings.limits


async def test_what_the_command_changed_is_in_the_audit_and_what_it_did_not_is_not(command, database, tenant):
    given = ("--tenant", tenant.slug)
    for most in ("9", "9", "8"):
        await command("set", "write", most, *given)
    for _ in range(2):
        await command("reset", *given, "write")
    async with database.tenant(tenant.id, read_only=True) as db:
        entries = [entry for entry in (await list_entries(db, limit=25)).items if entry.action.startswith("limit.")]
    assert [(entry.action, entry.arguments, entry.effect) for entry in reversed(entries)] == [
        ("limit.set", {"limit": "write", "most": 9}, {"before": None}),
        ("limit.set", {"limit": "write", "most": 8}, {"before": 9}),
        ("limit.reset", {"limits": ["write"]}, {"before": {"write": 8}}),
    ]
