"""Fault injection: every write of the catalogue loses its answer after the commit, is repeated, and had one effect."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import asyncpg
import pytest
import sqlalchemy as sa
from sqlmodel import col

from mercato.server.mcp.delivery import Delivery
from mercato.server.runtime import open_runtime
from mercato.server.settings import Settings
from mercato.tenancy import ledger
from mercato.tenancy.ledger import JobRun
from mercato.tools.schema import example_of
from tests.plugins.commerce.factory import add_order, add_product

SEALED_AFTERWARDS = {"mercato.answers", "mercato.audit_entries", "mercato.audit_heads"}
"""Tables that the background writes to; of the audit, the number of entries is compared."""
ARGUMENTS = {
    "cancel_job": lambda rows: {"run_id": rows.waiting},
    "cancel_order": lambda rows: {"order_id": rows.order.id, "reason": "a test", "confirm": True},
    "export_audit_log": lambda rows: {"format": "csv"},
    "retry_job": lambda rows: {"run_id": rows.dead},
    "update_inventory": lambda rows: {"product_id": rows.product.id, "adjustment": 3, "reason": "a test"},
    "update_order_status": lambda rows: {"order_id": rows.order.id, "status": "confirmed"},
    "update_product": lambda rows: {"product_id": rows.product.id, "title": "Another title"},
    "update_tenant_config": lambda rows: {"section": "profile", "settings": {"currency": "EUR"}},
}


class Rows(NamedTuple):
    """What there is to write about: an order, a product, and the ids of a run that waits and of one that is dead."""

    order: Any
    product: Any
    waiting: int
    dead: int


@pytest.fixture(scope="module")
async def runtime(anyio_backend, mercato_addresses, tmp_path_factory):
    """Every plugin that is built in."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("data"))
    async with open_runtime(settings, mercato_addresses, strict=True) as opened:
        yield opened


@pytest.fixture
async def rows_of(runtime, acme):
    """What the ids in arguments are of."""
    async with runtime.database.tenant(acme.id) as db:
        product, [variant] = await add_product(db, 5)
        order = await add_order(db, (variant, 2), status="pending")
        waiting, dead = [
            await ledger.enqueue(db, ledger.NewJob(name="gone.job", version=1, payload="{}", attempts=1))
            for _ in range(2)
        ]
        await db.session.exec(sa.update(JobRun).where(col(JobRun.id) == dead).values(state="dead"))
    return Rows(order, product, waiting, dead)


@pytest.fixture
async def contents(runtime, acme, mercato_addresses):
    """A digest of what each table has of the tenant, and the number of entries in its audit."""
    connection = await asyncpg.connect(mercato_addresses.database_url)
    tables = await connection.fetch(
        "select format('%s.%s', table_schema, table_name) as name from information_schema.columns"
        " where column_name = 'tenant_id' and table_schema = any($1::text[])"
        " and has_table_privilege('mercato_app', format('%s.%s', table_schema, table_name), 'select') order by 1",
        ["mercato", *runtime.plugins.loaded],
    )

    async def read():
        async with connection.transaction():
            await connection.execute("select set_config('role', 'mercato_app', true)")
            await connection.execute("select set_config('app.tenant_id', $1, true)", str(acme.id))
            found = {}
            for name in {row["name"] for row in tables} - SEALED_AFTERWARDS:
                text = await connection.fetchval(
                    f"select string_agg(row::text, ',' order by row::text) from {name} as row"
                )
                found[name] = hashlib.sha256((text or "").encode()).hexdigest()
            found["audit"] = await connection.fetchval("select count(*) from mercato.audit_entries")
        return found

    yield read
    await connection.close()


def test_every_write_of_the_catalogue_is_tried(runtime):
    writes = {tool.name for tool in runtime.catalog.tools.values() if not tool.read_only and not tool.is_raw}
    assert writes == set(ARGUMENTS)


@pytest.mark.parametrize("tool", ARGUMENTS)
@pytest.mark.parametrize("fate", ["the connection is cut", "the process dies"])
async def test_a_write_whose_answer_is_lost_has_one_effect(here, later, runtime, acme, rows_of, contents, tool, fate):
    arguments = example_of(runtime.catalog.tools[tool].input_schema, {}, set()) | ARGUMENTS[tool](rows_of)
    before = await contents()
    first = await here.run(acme, tool, arguments, delivery=(delivery := Delivery()))
    assert first.code == "ok", first.error
    if fate == "the connection is cut":
        delivery.settled(False)
        repeats = [await here.run(acme, tool, arguments)]
    else:
        repeats = []
    after = await contents()
    assert after != before
    assert after["audit"] == before["audit"] + 1
    repeats.append(await later.run(acme, tool, arguments))
    assert {(repeat.code, repeat.structured) for repeat in repeats} == {("replayed", first.structured)}
    assert await contents() == after


@pytest.mark.parametrize("tool", ARGUMENTS)
async def test_a_key_repeats_every_write_without_another_effect(here, runtime, acme, rows_of, contents, tool):
    arguments = ARGUMENTS[tool](rows_of)
    outcomes = []
    for delivered in (True, True, False):
        delivery = Delivery()
        outcomes.append(await here.run(acme, tool, arguments, key="k", delivery=delivery))
        delivery.settled(delivered)
    assert [outcome.code for outcome in outcomes] == ["ok", "replayed", "replayed"]
    assert len({outcome.structured for outcome in outcomes}) == 1
    assert (await contents())["audit"] == 2  # the tenant's beginning, and the write
