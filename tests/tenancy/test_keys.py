from __future__ import annotations

import asyncio
import hashlib
from collections import defaultdict
from datetime import timedelta

import pytest
import sqlalchemy as sa
from mcp.shared.exceptions import MCPError
from sqlalchemy import event
from sqlmodel import select

from mercato.server.auth.credentials import Credential
from mercato.tenancy.errors import InvalidValue, NotFound
from mercato.tenancy.keys import ApiKey, authenticate_key, check_scopes, create_key, list_keys, revoke_key
from mercato.tenancy.memberships import Membership, Role, add_member, check_role
from mercato.tenancy.onboarding import find_owner
from mercato.tenancy.principal import READ, WRITE
from mercato.tenancy.rows import utc_now
from mercato.tenancy.tenants import TenantRecord
from tests.inmemory import client_of


@pytest.fixture
def make_key(database, tenant):
    async def make(*scopes, role=Role.OWNER, expires_at=None):
        member = await add_member(database, tenant.id, f"{role}@acme.example", "Ada", role)
        async with database.tenant(tenant.id) as db:
            row, key = await create_key(db, member, "for the tests", scopes or ["*"], expires_at)
        return row, key

    return make


@pytest.fixture
def statements(database):
    """The statements that sessions of no tenant send, by the task that sends them: others work on meanwhile."""
    sent = defaultdict(list)
    engine = database._system.sync_engine

    def note(connection, cursor, statement, parameters, context, executemany):
        sent[asyncio.current_task()].append(statement.partition(" ")[0])

    event.listen(engine, "before_cursor_execute", note)
    yield sent
    event.remove(engine, "before_cursor_execute", note)


async def test_a_key_is_shown_once_and_only_its_hash_is_stored(database, tenant, make_key):
    row, key = await make_key()
    assert key.startswith("mck_")
    assert len(key) >= 47
    async with database.tenant(tenant.id) as db:
        [stored] = await db.rows(select(ApiKey).where(ApiKey.id == row.id))
    assert stored.digest == hashlib.sha256(key.encode()).digest()
    assert stored.shown == key[:10]
    assert key not in str(tuple(stored))


async def test_a_key_speaks_for_its_member_and_notes_its_use(database, tenant, make_key):
    row, key = await make_key(role=Role.MANAGER)
    principal = await authenticate_key(database, key)
    assert (principal.tenant_id, principal.role, principal.kind) == (tenant.id, Role.MANAGER, "key")
    assert (principal.credential_id, principal.client_id) == (row.id, f"key:{row.id}")
    async with database.tenant(tenant.id) as db:
        assert (await db.rows(select(ApiKey).where(ApiKey.id == row.id)))[0].last_used_at is not None


@pytest.mark.parametrize("key", ["", "mck_", "mck_unknown", "Bearer mck_x", "mck_\0", "x" * 10_000, "мск_key"])
async def test_an_unknown_key_speaks_for_nobody(database, tenant, key):
    assert await authenticate_key(database, key) is None


async def test_a_key_expires(database, make_key):
    _, late = await make_key(expires_at=utc_now() - timedelta(seconds=1))
    _, soon = await make_key(expires_at=utc_now() + timedelta(hours=1))
    assert await authenticate_key(database, late) is None
    assert (await authenticate_key(database, soon)).expires_at is not None


async def test_a_key_that_expires_while_it_is_remembered_is_refused_at_once(database, runtime, make_key, monkeypatch):
    _, key = await make_key(expires_at=utc_now() + timedelta(hours=1))
    assert await runtime.directory.caller(Credential("header", key)) is not None
    monkeypatch.setattr("mercato.server.auth.directory.utc_now", lambda: utc_now() + timedelta(hours=2))
    assert await runtime.directory.caller(Credential("header", key)) is None


async def test_a_revoked_key_is_refused_and_stays_so(database, tenant, make_key):
    row, key = await make_key()
    for _ in range(2):
        async with database.tenant(tenant.id) as db:
            await revoke_key(db, row.id)
    assert await authenticate_key(database, key) is None


async def test_a_key_of_another_tenant_can_be_neither_listed_nor_revoked(database, other_tenant, make_key):
    row, key = await make_key()
    async with database.tenant(other_tenant.id) as db:
        assert await list_keys(db) == []
        with pytest.raises(NotFound):
            await revoke_key(db, row.id)
    assert await authenticate_key(database, key) is not None


async def test_a_key_ends_with_its_membership_and_comes_back_with_it(database, tenant, make_key):
    row, key = await make_key(role=Role.MEMBER)
    async with database.tenant(tenant.id) as db:
        member = await db.session.get(Membership, row.membership_id)
        member.removed_at = utc_now()
    assert await authenticate_key(database, key) is None
    await add_member(database, tenant.id, "member@acme.example", "Ada", Role.VIEWER)
    assert (await authenticate_key(database, key)).role is Role.VIEWER


async def test_a_key_ends_with_its_tenant(database, tenant, make_key, runtime):
    _, key = await make_key()
    async with database.system() as session:
        record = await session.get(TenantRecord, tenant.id)
        record.removed_at = utc_now()
    assert await authenticate_key(database, key) is None
    assert await runtime.directory.caller(Credential("header", key)) is None


async def test_an_unknown_key_costs_what_a_known_one_costs_that_is_not_good(database, make_key, statements):
    _, late = await make_key(expires_at=utc_now() - timedelta(seconds=1))
    costs = []
    for key in ("mck_unknown", late):
        statements.clear()
        assert await authenticate_key(database, key) is None
        costs.append(statements[asyncio.current_task()])
    assert costs == [["SELECT"], ["SELECT"]]


SCOPES = [
    (["*"], {READ, WRITE, "*"}, None),
    ([READ], {READ}, None),
    ([READ, "commerce"], {READ, "commerce"}, {"commerce"}),
    ([READ, WRITE, "a", "b"], {READ, WRITE, "a", "b"}, {"a", "b"}),
    (["*", "commerce"], {READ, WRITE, "*", "commerce"}, None),
]


@pytest.mark.parametrize(("scopes", "expected", "categories"), SCOPES)
async def test_scopes_cut_what_a_key_reaches(database, make_key, scopes, expected, categories):
    _, key = await make_key(*scopes)
    principal = await authenticate_key(database, key)
    assert principal.scopes == expected
    assert principal.categories == categories


@pytest.mark.parametrize(
    ("role", "scopes", "reads", "writes"),
    [
        (Role.OWNER, ["*"], True, True),
        (Role.OWNER, [READ], True, False),
        (Role.MEMBER, [WRITE], False, True),
        (Role.VIEWER, ["*"], True, False),
        (Role.VIEWER, [WRITE], False, False),
    ],
)
async def test_a_role_cuts_the_scopes_and_scopes_cut_the_role(database, make_key, role, scopes, reads, writes):
    _, key = await make_key(*scopes, role=role)
    principal = await authenticate_key(database, key)
    assert (principal.reads, principal.writes) == (reads, writes)


def test_scopes_that_do_not_exist_are_refused_with_those_that_do():
    assert check_scopes([WRITE, READ, READ], ["commerce"]) == [READ, WRITE]
    with pytest.raises(InvalidValue, match=r"no scope 'nonsense'\. Scopes: \*, commerce, tools:read, tools:write"):
        check_scopes(["nonsense"], ["commerce"])
    for nothing in ([], ["commerce"]):
        with pytest.raises(InvalidValue, match="tools:read or tools:write"):
            check_scopes(nothing, ["commerce"])


def test_roles_that_do_not_exist_are_refused_with_those_that_do():
    with pytest.raises(InvalidValue, match="Roles: owner, admin, manager, member, viewer"):
        check_role("king")


async def test_the_database_itself_refuses_a_role_that_does_not_exist(database, tenant):
    with pytest.raises(sa.exc.IntegrityError, match="ck_memberships_role"):
        async with database.tenant(tenant.id) as db:
            (await db.session.exec(select(Membership))).one().role = "king"


async def test_a_key_narrowed_to_a_category_sees_and_calls_only_that(open_plugins, new_tenant, probes):
    async with open_plugins(*probes) as runtime:
        tenant = await new_tenant(runtime)
        member = await add_member(runtime.database, tenant.id, "ada@acme.example", "Ada", Role.OWNER)
        async with runtime.database.tenant(tenant.id) as db:
            _, key = await create_key(db, member, "narrow", [READ, "first"], None)
        principal = await authenticate_key(runtime.database, key)
        async with client_of(runtime, tenant, principal=principal) as client:
            assert [tool.name for tool in (await client.list_tools()).tools] == ["read_first"]
            assert not (await client.call_tool("read_first")).is_error
            for name in ("write_first", "read_second"):
                with pytest.raises(MCPError, match="needs the scope"):
                    await client.call_tool(name)


async def test_a_member_may_have_a_hundred_keys_and_no_more_until_one_is_revoked(database, tenant, monkeypatch):
    monkeypatch.setattr("mercato.tenancy.keys.MOST_OF_A_MEMBER", 2)
    owner = await find_owner(database, tenant)
    async with database.tenant(tenant.id) as db:
        first, _ = await create_key(db, owner, "one", ["*"], None)
        await create_key(db, owner, "two", ["*"], None)
        with pytest.raises(InvalidValue, match="2 keys"):
            await create_key(db, owner, "three", ["*"], None)
        await revoke_key(db, first.id)
        await create_key(db, owner, "three", ["*"], None)
