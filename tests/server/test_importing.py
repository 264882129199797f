"""An import's entries in the audit, and what it says when it is interrupted."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections import Counter
from pathlib import Path

import pytest

from mercato.plugins.commerce.bulk.staging import fetch, run
from mercato.plugins.commerce.shopify_csv import SHOPIFY_CSV, files
from mercato.plugins.importers import Importer, ImportReport
from mercato.server.importing import run_importer
from mercato.tenancy.onboarding import find_owner

HEADER = (
    "Name,Email,Financial Status,Fulfillment Status,Created at,Currency,Subtotal,Shipping,Taxes,Total,"
    "Lineitem quantity,Lineitem name,Lineitem price"
)
ROW = "#{n},a@example.com,paid,unfulfilled,2024-05-03 12:31:44 -0400,USD,5.00,0,0,5.00,1,Thing,5.00"
ENTRIES = """
select action, arguments, effect, kind, user_id from mercato.audit_entries where action like 'import.%' order by id
"""


class Interrupted(Exception):
    pass


@pytest.fixture
def export(tmp_path: Path) -> Path:
    path = tmp_path / "orders_export.csv"
    path.write_text("\n".join([HEADER, *(ROW.format(n=n) for n in range(1, 31))]))
    return path


@pytest.fixture
def query(database, tenant):
    async def run_query(statement: str):
        async with database.tenant(tenant.id) as db:
            return await fetch(db.session, statement)

    return run_query


async def test_each_batch_has_its_entry_also_when_the_next_fails(database, tenant, query, export, monkeypatch):
    monkeypatch.setattr(files, "BATCH_ROWS", 10)

    def interrupt(what: str, done: int, total: int | None):
        if done > 20:
            raise Interrupted

    with pytest.raises(Interrupted):
        await run_importer(database, tenant, SHOPIFY_CSV, {"orders": export}, interrupt)
    owner = await find_owner(database, tenant)
    entries = await query(ENTRIES)
    assert len(entries) == 2
    assert (
        sum(entry[2]["orders_new"] for entry in entries) == (await query("select count(*) from commerce.orders"))[0][0]
    )
    for action, arguments, _, kind, user_id in entries:
        assert (action, arguments) == ("import.shopify-csv", {"orders": "orders_export.csv"})
        assert (kind, user_id) == ("local", owner.user_id)


async def test_an_import_that_changes_nothing_leaves_no_entry(database, tenant, query, export):
    for _ in range(2):
        await run_importer(database, tenant, SHOPIFY_CSV, {"orders": export}, lambda *_: None)
        assert [entry[2] for entry in await query(ENTRIES)] == [
            {"orders_new": 30, "lines_new": 30, "customers_new": 1, **ZEROS},
            {"customers_counted": 1},
        ]


ZEROS = {"orders_updated": 0, "lines_updated": 0, "lines_removed": 0}


async def test_an_importer_that_does_not_say_what_it_did_has_its_entries_too(database, tenant, query):
    async def write(context, files):
        async with context.begin() as db:
            await run(db.session, "insert into commerce.customers (email, currency) values ('a@example.com', 'USD')")
        async with context.begin():
            pass
        return ImportReport({})

    await run_importer(database, tenant, Importer(name="one", description="x", run=write), {}, lambda *_: None)
    assert [(action, effect) for action, _, effect, *_ in await query(ENTRIES)] == [("import.one", {})]


async def test_a_batch_that_is_interrupted_while_it_is_committed_counts_as_kept(database, tenant, query):
    async def write(context, files):
        effect = {"customers_new": 0}
        async with context.begin(effect) as db:
            await run(db.session, "insert into commerce.customers (email, currency) values ('a@example.com', 'USD')")
            effect["customers_new"] = 1
            asyncio.current_task().cancel()

    kept = Counter()
    importing = run_importer(
        database, tenant, Importer(name="one", description="x", run=write), {}, lambda *_: None, kept
    )
    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(importing)
    assert kept == {"customers_new": 1}
    assert [entry[2] for entry in await query(ENTRIES)] == [{"customers_new": 1}]


async def test_ctrl_c_keeps_whole_batches_and_says_so(database, tenant, query, export, mercato_addresses, tmp_path):
    batch = files.BATCH_ROWS
    export.write_text("\n".join([HEADER, *(ROW.format(n=n) for n in range(1, batch + 101))]))
    (tmp_path / "data").mkdir()
    environment = {
        **os.environ,
        "MERCATO_DATABASE_URL": mercato_addresses.database_url,
        "MERCATO_REDIS_URL": mercato_addresses.redis_url,
    }
    command = (sys.executable, "-c", "from mercato.server.cli import main; main()", "import", "shopify-csv")
    options = ("--tenant", tenant.slug, "--data-dir", str(tmp_path / "data"), "--orders", str(export))
    # The second batch waits for this transaction, which has made an order of its number.
    async with database.tenant(tenant.id) as db:
        values = f"('#{batch + 1}', 'pending', 'unfulfilled', 'pending', 'USD', now())"
        columns = "(number, status, fulfillment_status, financial_status, currency, placed_at)"
        await run(db.session, f"insert into commerce.orders {columns} values {values}")
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*command, *options, stdout=pipe, stderr=pipe, env=environment)
        async with asyncio.timeout(60):
            while process.returncode is None and not await query(ENTRIES):
                await asyncio.wait([asyncio.ensure_future(process.wait())], timeout=0.05)
            if process.returncode is None:
                process.send_signal(signal.SIGINT)
            _, said = await process.communicate()
    assert process.returncode == 130, said
    kept = f"Kept so far: {batch:,} orders new, {batch:,} lines new, 1 customers new. Running it again completes it."
    assert kept in re.sub(r"\s+", " ", said.decode())
    assert [entry[2]["orders_new"] for entry in await query(ENTRIES)] == [batch]
    assert await query(f"select count(*) from commerce.orders where number <> '#{batch + 1}'") == [(batch,)]
