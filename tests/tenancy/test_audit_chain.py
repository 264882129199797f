"""The audit's chain: what it is made of, and that whatever is done to it behind our back shows."""

from __future__ import annotations

from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

import anyio
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from mercato.tenancy import audit, audit_chain
from mercato.tenancy.audit_chain import Run, seal, seal_waiting, take_turn
from mercato.tenancy.audit_erasure import erase
from mercato.tenancy.audit_pruning import Pruned, prune
from mercato.tenancy.audit_signer import AuditSigner
from mercato.tenancy.audit_verification import verify
from mercato.tenancy.errors import InvalidValue, NotFound
from mercato.tenancy.onboarding import local_principal
from mercato.tenancy.secrets import KEY_BYTES, KeyRing
from tests.own_database import own_database

OLD, NEW = b"o" * KEY_BYTES, b"n" * KEY_BYTES
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
async def own(anyio_backend, runtime, mercato_addresses):
    async with own_database(mercato_addresses) as opened:
        yield opened


@pytest.fixture
def signer():
    return AuditSigner(KeyRing([OLD]))


@pytest.fixture
async def acme(own):
    return await own.new_tenant("acme")


@pytest.fixture
async def globex(own):
    return await own.new_tenant("globex")


@pytest.fixture
async def principal(own, acme):
    return await local_principal(own.database, acme)


@pytest.fixture
async def chain(own, acme, principal, signer):
    """Five sealed entries of Acme: number 1 is its making, the others are called by their numbers."""
    await write(own, principal, *(f"act {number}" for number in range(2, 6)))
    await seal(own.database, signer, wait=True)
    return acme


async def write(own, principal, *actions, **arguments):
    for action in actions:
        async with own.database.tenant(principal.tenant_id) as db:
            audit.record(db, principal, action, {"order": action, **arguments}, {"done": action})


async def tamper(own, statement, tenant):
    """Do something as only the database's owner can."""
    await own.superuser.execute(statement.replace(":tenant", str(tenant.id)))


async def actions(own, tenant):
    """The sealed entries, in the order of the chain."""
    statement = "select number, action from mercato.audit_entries where tenant_id = $1 and number > 0 order by number"
    return [tuple(row) for row in await own.superuser.fetch(statement, tenant.id)]


async def breaks(own, signer, tenant, **options):
    return list((await verify(own.database, signer, tenant.id, **options)).breaks)


async def test_each_tenant_has_a_chain_of_its_own_that_holds(own, signer, chain, globex):
    await write(own, await local_principal(own.database, globex), "theirs")
    await seal(own.database, signer)
    assert await actions(own, chain) == [(1, "tenant.create"), *((n, f"act {n}") for n in range(2, 6))]
    assert await actions(own, globex) == [(1, "tenant.create"), (2, "theirs")]
    for tenant, entries in ((chain, 5), (globex, 2)):
        verdict = await verify(own.database, signer, tenant.id)
        assert (verdict.holds, verdict.entries, verdict.end.number, verdict.waiting) == (True, entries, entries, 0)


async def test_the_order_is_that_of_the_commits_and_not_of_the_writes(own, signer, acme, principal):
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(own.database.tenant(acme.id))
        audit.record(first, principal, "written first", {}, {})
        await first.session.flush()
        with anyio.fail_after(5):  # a writer waits for none
            await write(own, principal, "committed first")
        await seal(own.database, signer)
        assert await actions(own, acme) == [(1, "tenant.create"), (2, "committed first")]
    await seal(own.database, signer)
    assert (await actions(own, acme))[2:] == [(3, "written first")]
    assert await breaks(own, signer, acme) == []


async def test_nobody_waits_for_the_sealer(own, signer, acme, principal):
    async with own.database.system() as session:
        connection = await session.connection()
        await take_turn(connection)
        assert (await seal_waiting(connection, signer, acme.id)).sealed == 1
        with anyio.fail_after(5):
            await write(own, principal, "meanwhile")
    await seal(own.database, signer)
    assert await actions(own, acme) == [(1, "tenant.create"), (2, "meanwhile")]


async def test_two_sealers_at_once_make_one_chain(own, signer, acme, principal, monkeypatch):
    monkeypatch.setattr(audit_chain, "MOST_IN_A_BATCH", 3)
    await write(own, principal, *(f"act {number}" for number in range(2, 20)))
    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(lambda: seal(own.database, signer, wait=True))
    assert [number for number, _ in await actions(own, acme)] == list(range(1, 20))
    assert await breaks(own, signer, acme) == []


async def test_who_finds_another_at_work_leaves_it_to_that_one(own, signer):
    async with own.database.system() as session:
        await take_turn(await session.connection())
        assert await seal(own.database, signer) is None
    assert await seal(own.database, signer) == Run(0)


async def test_entries_from_before_there_were_chains_are_sealed_too(own, signer, acme):
    statement = """
        insert into mercato.audit_entries (tenant_id, kind, action, arguments, effect)
        select :tenant, 'key', 'old ' || number, '{"order": 1}', '{}' from generate_series(1, 1200) as number
    """
    await tamper(own, statement, acme)
    assert (await seal(own.database, signer)).sealed == 1201
    verdict = await verify(own.database, signer, acme.id)
    assert (verdict.holds, verdict.entries) == (True, 1201)
    await tamper(own, """update mercato.audit_entries set arguments = '{"order": 2}' where action = 'old 700'""", acme)
    [found] = await breaks(own, signer, acme)
    assert "has another argument than it had" in found.reason


@pytest.mark.parametrize(
    "value",
    [1.0, -0.0, 1e16, 1e300, 0.1, 1e-7, 5e-324, 10**30, True, None, "é \u2028 \U0001f600", [1.5, {"b": 2.0, "a": []}]],
)
async def test_what_was_written_is_what_is_read_whatever_the_column_makes_of_it(own, signer, acme, principal, value):
    await write(own, principal, "odd", value=value)
    await seal(own.database, signer)
    assert await breaks(own, signer, acme) == []


INSERT = "insert into mercato.audit_entries (tenant_id, kind, action, arguments, effect, number, seal)"
OURS = "where tenant_id = :tenant"
DONE_BEHIND_OUR_BACK = {
    f"delete from mercato.audit_entries {OURS} and number = 3": (3, "Number 3 is missing."),
    f"delete from mercato.audit_entries {OURS} and number < 3": (1, "Numbers 1 to 2 are missing, and no anchor"),
    f"delete from mercato.audit_entries {OURS} and number > 3": (4, "Numbers 4 to 5 are missing."),
    f"delete from mercato.audit_entries {OURS}": (1, "Numbers 1 to 5 are missing"),
    f"update mercato.audit_entries set number = null {OURS} and number = 3": (3, "Number 3 is missing."),
    f"update mercato.audit_entries set number = 9 {OURS} and number = 3": (3, "Number 3 is missing."),
    f"update mercato.audit_entries set action = 'else' {OURS} and number = 3": (3, "was changed"),
    f"update mercato.audit_entries set user_id = 1 {OURS} and number = 3": (3, "was changed"),
    f"update mercato.audit_entries set at = at - interval '1 day' {OURS} and number = 3": (3, "was changed"),
    f"update mercato.audit_entries set request_id = 'r' {OURS} and number = 5": (5, "was changed"),
    f"update mercato.audit_entries set seal = null {OURS} and number = 3": (3, "its seal was changed"),
    f"update mercato.audit_entries set salt = '' {OURS} and number = 3": (3, "has another argument"),
    f"update mercato.audit_entries set arguments = '{{}}' {OURS} and number = 3": (3, "has another argument"),
    f"update mercato.audit_entries set effect = '{{}}' {OURS} and number = 3": (3, "has another effect"),
    f"update mercato.audit_entries set arguments = '{{}}', arguments_digest = sha256(salt || '{{}}') {OURS}"
    " and number = 3": (3, "was changed"),
    f"update mercato.audit_entries set arguments = '{{}}', effect = '{{}}', salt = null, erased_at = now() {OURS}"
    " and number = 3": (3, "was not erased here"),
    f"{INSERT} values (:tenant, 'key', 'more', '{{}}', '{{}}', 6, 'seal')": (6, "its seal was changed"),
    f"{INSERT} select :tenant, 'key', 'more', '{{}}', '{{}}', 6, seal from mercato.audit_entries {OURS}"
    " and number = 5": (6, "was changed or put in"),
    f"{INSERT} values (:tenant, 'key', 'more', '{{}}', '{{}}', 0, 'seal')": (0, "was put in at number 0"),
    f"delete from mercato.audit_heads {OURS}": (5, "The record of the chain's end is missing."),
    f"update mercato.audit_heads set number = 4 {OURS}": (5, "The record of the chain's end was changed."),
    f"delete from mercato.audit_entries {OURS} and number = 5; delete from mercato.audit_heads {OURS}": (
        4,
        "The record of the chain's end is missing.",
    ),
}


@pytest.mark.parametrize("statement", DONE_BEHIND_OUR_BACK)
async def test_what_is_done_behind_our_back_shows(own, signer, chain, globex, statement):
    number, reason = DONE_BEHIND_OUR_BACK[statement]
    await tamper(own, statement, chain)
    first = (await breaks(own, signer, chain))[0]
    assert first.number == number
    assert reason in first.reason
    assert await breaks(own, signer, globex) == []


async def test_the_second_break_shows_too(own, signer, chain):
    await tamper(own, f"delete from mercato.audit_entries {OURS} and number = 2", chain)
    await tamper(own, f"update mercato.audit_entries set action = 'else' {OURS} and number = 4", chain)
    assert [one.number for one in await breaks(own, signer, chain)] == [2, 4]


@pytest.mark.parametrize("turned_back", [False, True])
async def test_a_lost_end_is_no_new_beginning(own, signer, chain, principal, turned_back):
    if turned_back:
        await own.superuser.execute("create temporary table kept as table mercato.audit_heads")
        await write(own, principal, "act 6", "act 7")
        await seal(own.database, signer)
        await tamper(own, f"delete from mercato.audit_heads {OURS}", chain)
        await tamper(own, f"insert into mercato.audit_heads overriding system value select * from kept {OURS}", chain)
        await own.superuser.execute("drop table kept")
    else:
        await tamper(own, f"delete from mercato.audit_entries {OURS} and number > 3", chain)
        await tamper(own, f"delete from mercato.audit_heads {OURS}", chain)
    await write(own, principal, "afterwards", "and so on")
    assert await seal(own.database, signer) == Run(2, frozenset({chain.id}))
    [found] = await breaks(own, signer, chain)
    assert found.number == (8 if turned_back else 4)
    assert "entries before it may be missing" in found.reason


async def test_a_whole_chain_that_was_turned_back_shows_to_who_noted_its_end(own, signer, chain, principal):
    await own.superuser.execute("create temporary table kept as table mercato.audit_heads")
    await write(own, principal, "act 6")
    await seal(own.database, signer)
    known = (await verify(own.database, signer, chain.id)).end
    assert await breaks(own, signer, chain, known=known) == []
    await tamper(own, f"delete from mercato.audit_entries {OURS} and number = 6", chain)
    await tamper(own, f"delete from mercato.audit_heads {OURS}", chain)
    await tamper(own, f"insert into mercato.audit_heads overriding system value select * from kept {OURS}", chain)
    await own.superuser.execute("drop table kept")
    assert await breaks(own, signer, chain) == []  # nothing in the database can tell
    assert [one.number for one in await breaks(own, signer, chain, known=known)] == [6]
    await write(own, principal, "another 6")
    await seal(own.database, signer)
    [found] = await breaks(own, signer, chain, known=known)
    assert "another seal than the one that is known" in found.reason


async def test_a_rotated_ring_goes_on_with_the_chain_and_needs_the_old_key(own, signer, chain, principal):
    rotated = AuditSigner(KeyRing([NEW, OLD]))
    await write(own, principal, "act 6")
    assert await seal(own.database, rotated) == Run(1)
    assert await breaks(own, rotated, chain) == []
    first = (await breaks(own, AuditSigner(KeyRing([NEW])), chain))[0]
    assert first.number == 1
    assert "with a key that is not in MERCATO_SECRET_KEYS" in first.reason


TEXT = "select coalesce(string_agg(entry::text, ''), '') from mercato.audit_entries as entry where tenant_id = $1"


async def test_what_a_user_did_is_erased_and_the_chain_holds(own, signer, chain, principal):
    assert await erase(own.database, signer, principal, user_id=principal.user_id) == 5
    await seal(own.database, signer)
    verdict = await verify(own.database, signer, chain.id)
    assert (verdict.holds, verdict.entries, verdict.erased) == (True, 6, 5)
    assert (await actions(own, chain))[5:] == [(6, "audit.erase")]
    assert '"order"' not in await own.superuser.fetchval(TEXT, chain.id)
    salts = f"select count(salt) from mercato.audit_entries where tenant_id = {chain.id} and number < 6"
    assert await own.superuser.fetchval(salts) == 0
    async with own.database.tenant(chain.id) as db:
        *_, made = (await audit.list_entries(db, limit=10)).items
    assert (made.action, made.arguments, made.effect) == ("tenant.create", {}, {})
    assert made.erased_at is not None


async def test_single_entries_are_erased_before_they_are_sealed_too(own, signer, chain, principal):
    await write(own, principal, "not sealed", email="ada@example.com")
    ids = [row[0] for row in await own.superuser.fetch("select id from mercato.audit_entries where number is null")]
    assert await erase(own.database, signer, principal, entry_ids=ids) == 1
    assert await erase(own.database, signer, principal, entry_ids=ids) == 0
    assert "ada@example.com" not in await own.superuser.fetchval(TEXT, chain.id)
    await seal(own.database, signer)
    verdict = await verify(own.database, signer, chain.id)
    assert (verdict.holds, verdict.entries, verdict.erased) == (True, 7, 1)


async def test_what_is_put_back_into_an_erased_entry_shows(own, signer, chain, principal):
    await erase(own.database, signer, principal, user_id=principal.user_id)
    await tamper(
        own, f"""update mercato.audit_entries set arguments = '{{"order": "act 3"}}' {OURS} and number = 3""", chain
    )
    assert [one.number for one in await breaks(own, signer, chain)] == [3]


async def test_nothing_of_another_tenant_is_erased(own, signer, chain, globex):
    stranger = await local_principal(own.database, globex)
    [entry_id] = await own.superuser.fetchrow(
        f"select id from mercato.audit_entries where tenant_id = {chain.id} and number = 3"
    )
    with pytest.raises(NotFound, match=f"no entry {entry_id} here"):
        await erase(own.database, signer, stranger, entry_ids=[entry_id])
    assert (await verify(own.database, signer, chain.id)).erased == 0
    with pytest.raises(InvalidValue, match="Say whose"):
        await erase(own.database, signer, stranger)


@pytest.fixture
async def aged(own, acme, principal, signer):
    """Entries 2 to 6 of Acme, an hour apart from noon on; number 1, its making, is from a day before."""
    await tamper(own, f"update mercato.audit_entries set at = timestamptz '{NOON}' - interval '1 day' {OURS}", acme)
    for hour in range(5):
        async with own.database.tenant(acme.id) as db:
            db.session.add(
                audit.AuditEntry(at=NOON + timedelta(hours=hour), kind="key", action=f"{hour}", arguments={}, effect={})
            )
    await seal(own.database, signer)
    return acme


async def test_what_is_left_after_pruning_holds(own, signer, aged, principal):
    assert await prune(own.database, signer, principal, NOON + timedelta(hours=2)) == Pruned(3, 3)
    await seal(own.database, signer)
    assert await actions(own, aged) == [(4, "2"), (5, "3"), (6, "4"), (7, "audit.prune")]
    assert await prune(own.database, signer, principal, NOON + timedelta(hours=3)) == Pruned(1, 4)
    assert await prune(own.database, signer, principal, NOON) == Pruned(0, 4)
    await seal(own.database, signer)
    verdict = await verify(own.database, signer, aged.id)
    assert (verdict.holds, verdict.pruned, verdict.end.number) == (True, 4, 8)


async def test_a_chain_goes_on_where_everything_was_pruned(own, signer, aged, principal):
    now = datetime.now(UTC)
    assert await prune(own.database, signer, principal, now) == Pruned(6, 6)
    assert await breaks(own, signer, aged) == []
    await seal(own.database, signer)
    assert await actions(own, aged) == [(7, "audit.prune")]
    assert await breaks(own, signer, aged) == []


DONE_TO_ANCHORS = {
    f"delete from mercato.audit_anchors {OURS}": (1, "Numbers 1 to 4 are missing, and no anchor"),
    f"delete from mercato.audit_anchors {OURS} and number = 4": (4, "Number 4 is missing."),
    f"delete from mercato.audit_anchors {OURS} and number = 3": (1, "The anchor before number 4 is missing."),
    f"update mercato.audit_anchors set entries = 2 {OURS} and number = 3": (1, "The anchor of number 3 was changed."),
    f"update mercato.audit_anchors set pruned_at = now() {OURS} and number = 4": (4, "of number 4 was changed."),
    f"{INSERT} values (:tenant, 'key', 'more', '{{}}', '{{}}', 2, 'seal')": (2, "was put in at number 2"),
}


@pytest.mark.parametrize("statement", DONE_TO_ANCHORS)
async def test_what_is_done_to_anchors_shows(own, signer, aged, principal, statement):
    await prune(own.database, signer, principal, NOON + timedelta(hours=2))
    await prune(own.database, signer, principal, NOON + timedelta(hours=3))
    number, reason = DONE_TO_ANCHORS[statement]
    await tamper(own, statement, aged)
    first = (await breaks(own, signer, aged))[0]
    assert first.number == number
    assert reason in first.reason


async def test_what_does_not_hold_is_pruned_only_by_who_insists(own, signer, aged, principal):
    await tamper(own, f"delete from mercato.audit_entries {OURS} and number = 2", aged)
    with pytest.raises(InvalidValue, match="Number 2 is missing"):
        await prune(own.database, signer, principal, NOON + timedelta(hours=2))
    assert [one.number for one in await breaks(own, signer, aged)] == [2]
    pruned = await prune(own.database, signer, principal, NOON + timedelta(hours=2), even_if_broken=True)
    assert pruned == Pruned(2, 3)
    assert await breaks(own, signer, aged) == []
    async with own.database.tenant(aged.id) as db:
        newest = (await audit.list_entries(db, limit=1)).items[0]
    assert newest.effect == {"entries": 2, "up_to_number": 3, "breaks": ["Number 2 is missing."]}


async def test_nothing_is_pruned_from_before_a_time_to_come(own, signer, principal):
    with pytest.raises(InvalidValue, match="in the future"):
        await prune(own.database, signer, principal, datetime.now(UTC) + timedelta(days=1))


ROWS = "(kind, action, arguments, effect{column}) values ('key', 'forged', '{{}}', '{{}}'{value})"
FORBIDDEN = {
    "insert into mercato.audit_entries " + ROWS.format(column=", number", value=", 1"),
    "insert into mercato.audit_entries " + ROWS.format(column=", seal", value=", 'seal'"),
    "insert into mercato.audit_entries " + ROWS.format(column=", erased_at", value=", now()"),
    "insert into mercato.audit_entries " + ROWS.format(column=", id", value=", 1"),
    "update mercato.audit_entries set arguments = '{}'",
    "delete from mercato.audit_entries",
    "select * from mercato.audit_heads",
    "update mercato.audit_heads set number = 0",
    "insert into mercato.audit_anchors default values",
}


@pytest.mark.parametrize("statement", sorted(FORBIDDEN))
async def test_tools_add_to_the_audit_and_do_nothing_else_to_it(own, acme, statement):
    async with own.database.tenant(acme.id) as db:
        connection = await db.session.connection()
        with pytest.raises(DBAPIError, match="permission denied"):
            await connection.execute(sa.text(statement))
        await db.session.rollback()


async def test_not_even_the_system_changes_who_did_what_or_an_anchor(own):
    for statement in (
        "update mercato.audit_entries set action = 'else'",
        "update mercato.audit_anchors set number = 1",
        "delete from mercato.audit_anchors",
        "delete from mercato.audit_heads",
    ):
        with pytest.raises(DBAPIError, match="permission denied"):
            async with own.database.system() as session:
                await (await session.connection()).execute(sa.text(statement))
