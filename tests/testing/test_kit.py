"""The test kit, as an author of a plugin uses it."""

from __future__ import annotations

import inspect

import pytest
from mcp.shared.exceptions import MCPError
from sqlmodel import select

from mercato.plugins.commerce import StockRanLow, stock_ran_low
from mercato.plugins.manager import discover
from mercato.server.runtime import open_runtime
from mercato.server.settings import Settings
from mercato.tenancy.grants import DisabledTool
from tests.sources import ROOT
from tests.testing import reports


@pytest.fixture(scope="module")
async def runtime(anyio_backend, mercato_addresses, mercato_roomy, tmp_path_factory):
    settings = Settings(data_dir=tmp_path_factory.mktemp("data"), log_level="error", **mercato_roomy)
    async with open_runtime(settings, mercato_addresses, found=[*discover(), reports.FOUND], strict=True) as opened:
        yield opened


@pytest.fixture(autouse=True)
async def none_is_left(database):
    await database.pool.fetch("delete from mercato.jobs")
    yield
    await database.pool.fetch("delete from mercato.jobs")


async def test_a_report_is_as_wide_as_the_person_says(tasks, run_jobs):
    task = await tasks.call("make_report", {"size": {"cm": 3}}, year=2025)
    assert await run_jobs() == 1
    ended = await tasks.get(task)
    assert ended["status"] == "completed"
    assert ended["result"]["structuredContent"] == {"text": "2025, 3 cm wide"}


async def test_a_sale_is_planned_as_the_person_says(tasks, run_jobs):
    task = await tasks.call("plan_sale", product="Mug")
    await run_jobs()
    assert (await tasks.get(task))["status"] == "input_required"
    await tasks.answer(task, price={"cents": 900}, length={"days": 3})
    await run_jobs()
    assert (await tasks.get(task))["result"]["structuredContent"] == {"text": "Mug at 900 for 3 days"}


async def test_a_question_that_is_declined_is_told_to_the_model(tasks, run_jobs):
    task = await tasks.call("plan_sale", product="Mug")
    await run_jobs()
    await tasks.answer(task, price=None, length={"days": 3})
    await run_jobs()
    ended = await tasks.get(task)
    assert (ended["status"], ended["result"]["isError"]) == ("completed", True)


async def test_what_nobody_asks_cannot_be_answered_and_what_is_asked_must_be(tasks, run_jobs):
    with pytest.raises(AssertionError, match=r"make_report asks 'size' before .* How wide is the paper for 2025\?"):
        await tasks.call("make_report", year=2025)
    task = await tasks.call("plan_sale", product="Mug")
    await run_jobs()
    with pytest.raises(AssertionError, match=r"does not ask \['prize'\]; it asks \['length', 'price'\]"):
        await tasks.answer(task, prize={"cents": 900})


async def test_a_task_is_cancelled_and_unknown_to_another_tenant(tasks, other_tasks, run_jobs):
    task = await tasks.call("plan_sale", product="Mug")
    with pytest.raises(MCPError, match="no such task"):
        await other_tasks.get(task)
    await tasks.cancel(task)
    assert await run_jobs() == 0
    assert (await tasks.get(task))["status"] == "cancelled"


async def test_what_the_context_enqueued_runs_and_is_seen_by_it(ctx, run_jobs, database, other_tenant):
    await reports.keep.enqueue(ctx, name="first")
    assert await run_jobs() == 1
    await reports.keep.enqueue(ctx, name="second")
    assert await run_jobs() == 1
    assert sorted(row.tool for row in await ctx.db.rows(select(DisabledTool.tool))) == ["first", "second"]
    async with database.tenant(other_tenant.id, read_only=True) as db:
        assert list(await db.rows(select(DisabledTool.tool))) == []


async def test_an_event_of_another_plugin_starts_a_job(ctx, run_jobs):
    low = StockRanLow(product_id=1, product="Mug", variant_id=2, variant="Blue", units=3, threshold=5)
    await stock_ran_low.publish(ctx, low)
    assert await run_jobs() == 2
    assert [variant_id for variant_id, _ in reports.orders] == [2]


async def test_a_run_that_failed_is_counted_and_waits_for_its_next_attempt(mcp, ctx, run_jobs):
    run_id = await reports.fail.enqueue(ctx)
    assert await run_jobs() == 1
    assert await run_jobs() == 0
    [run] = (await mcp.call_tool("list_jobs", {"run_id": run_id})).structured_content["jobs"]
    assert (run["state"], run["attempt"], run["error"]) == ("retrying", 1, "not today")


@pytest.mark.parametrize(
    "shown",
    [
        reports.Size,
        reports.ask_size,
        reports.make_report.function,
        reports.plan_sale.function,
        reports.order_more.function,
        test_a_report_is_as_wide_as_the_person_says,
        test_a_sale_is_planned_as_the_person_says,
    ],
)
def test_what_the_docs_show_runs_here(shown):
    page = (ROOT / "docs" / "write-a-plugin.md").read_text(encoding="utf-8")
    assert inspect.getsource(shown) in page
