"""The task that seals the audit: soon after a write, at the next sweep else, and whatever happens in between."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from mercato.server import sealer as module
from mercato.server.sealer import Sealer
from mercato.tenancy import audit
from mercato.tenancy.audit_chain import Run
from mercato.tenancy.audit_signer import AuditSigner
from mercato.tenancy.audit_verification import verify
from mercato.tenancy.onboarding import local_principal
from mercato.tenancy.secrets import KEY_BYTES, KeyRing
from tests.own_database import own_database

RING = KeyRing([b"k" * KEY_BYTES])


@pytest.fixture(scope="module")
async def own(anyio_backend, runtime, mercato_addresses):
    async with own_database(mercato_addresses) as opened:
        yield opened


@pytest.fixture
def never(monkeypatch):
    """No sweep comes, and no time is left for entries to gather."""
    monkeypatch.setattr(module, "_SWEEP_S", 3_600)
    monkeypatch.setattr(module, "_GATHER_S", 0)


@pytest.fixture
def often(monkeypatch):
    """Sweeps come all the time."""
    monkeypatch.setattr(module, "_SWEEP_S", 0.01)
    monkeypatch.setattr(module, "_GATHER_S", 0)


@pytest.fixture
async def acme(own):
    return await own.new_tenant("acme")


async def write(own, tenant):
    principal = await local_principal(own.database, tenant)
    async with own.database.tenant(tenant.id) as db:
        audit.record(db, principal, "act", {}, {})


async def until_sealed(own, tenant, entries):
    with anyio.fail_after(10):
        while (verdict := await verify(own.database, AuditSigner(RING), tenant.id)).entries < entries:
            await asyncio.sleep(0)
    assert verdict.holds


async def test_an_entry_is_sealed_soon_after_this_process_wrote_it(own, acme, monkeypatch):
    monkeypatch.setattr(module, "_SWEEP_S", 3_600)
    sealer = Sealer(own.database, RING)
    sealer.start()
    await write(own, acme)
    await until_sealed(own, acme, 2)
    await sealer.stop()


async def test_what_another_process_wrote_is_sealed_at_the_next_sweep(own, acme, often):
    sealer = Sealer(own.database, RING)
    sealer.start()
    await until_sealed(own, acme, 1)
    insert = "insert into mercato.audit_entries (tenant_id, kind, action, arguments, effect)"
    await own.superuser.execute(f"{insert} values ({acme.id}, 'key', 'act', '{{}}', '{{}}')")
    await until_sealed(own, acme, 2)
    await sealer.stop()


async def test_what_was_written_last_is_sealed_before_the_process_ends(own, acme, never):
    sealer = Sealer(own.database, RING)
    sealer.start()
    await write(own, acme)
    await sealer.stop()
    assert (await verify(own.database, AuditSigner(RING), acme.id)).waiting == 0
    await write(own, acme)  # nobody listens any more
    assert (await verify(own.database, AuditSigner(RING), acme.id)).waiting == 1


@pytest.mark.parametrize("failure", [ConnectionRefusedError(), ValueError("on purpose")])
async def test_after_a_failure_it_goes_on(own, acme, often, monkeypatch, failure):
    failed = asyncio.Event()

    async def fail(*_):
        failed.set()
        raise failure

    sealer = Sealer(own.database, RING)
    with monkeypatch.context() as patched:
        patched.setattr(module, "seal", fail)
        sealer.start()
        with anyio.fail_after(10):
            await failed.wait()
    await until_sealed(own, acme, 1)
    await sealer.stop()


async def test_a_run_that_was_full_is_followed_by_the_next_at_once(own, acme, never, monkeypatch):
    runs = [Run(module.MOST_IN_A_RUN), Run(module.MOST_IN_A_RUN, frozenset({acme.id})), Run(3)]

    async def run(*_):
        return runs.pop(0)

    monkeypatch.setattr(module, "seal", run)
    sealer = Sealer(own.database, RING)
    sealer.start()
    await write(own, acme)
    await sealer.stop()
    assert runs == []


async def test_two_processes_make_one_chain(own, acme, often):
    sealers = [Sealer(own.database, RING) for _ in range(3)]
    for sealer in sealers:
        sealer.start()
    for _ in range(10):
        await write(own, acme)
    await until_sealed(own, acme, 11)
    for sealer in sealers:
        await sealer.stop()
