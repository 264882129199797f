from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import anyio
import pytest
from typer.testing import CliRunner

from mercato.server.cli import app
from mercato.server.cli.usage import _account
from tests.server.usage.conftest import call


@pytest.fixture
def run(mercato_addresses, tmp_path):
    """Run `mercato usage` for a tenant, in a thread of its own."""

    async def run_it(tenant, *arguments):
        given = {
            "MERCATO_DATA_DIR": str(tmp_path),
            "DATABASE_URL": mercato_addresses.database_url,
            "REDIS_URL": mercato_addresses.redis_url,
            "COLUMNS": "200",
        }
        command = ["usage", "--tenant", tenant.slug, *arguments]
        return await anyio.to_thread.run_sync(lambda: CliRunner().invoke(app, command, env=given))

    return run_it


@pytest.fixture
async def calls(open_ledger, tenant):
    """Twelve calls, of which nine are recorded."""
    ledger = open_ledger()
    for number in range(9):
        call(ledger, tenant.id, tool="list_orders" if number < 6 else "get_order", cost_cents=1)
    for _ in range(3):
        ledger.admitted(tenant.id)
    await ledger.stop()


async def test_the_table_tells_what_calls_came_to_and_how_many_are_missing(run, tenant, calls):
    result = await run(tenant)
    assert result.exit_code == 0
    assert result.output.index("list_orders") < result.output.index("get_order") < result.output.index("in all")
    last = "3 calls were admitted and are not recorded: they still run, or a process was killed."
    assert result.output.strip().endswith(last)


async def test_json_is_one_line_for_programs(run, tenant, calls):
    told = json.loads((await run(tenant, "--by", "client", "--json")).output)
    assert (told["total"]["calls"], told["admitted"], told["unrecorded"]) == (9, 12, 3)
    assert [(group["key"], group["calls"], group["cost_cents"]) for group in told["groups"]] == [("key:12", 9, 9)]


async def test_days_can_be_chosen(run, tenant, calls):
    today = datetime.now(UTC).date()
    before = str(today - timedelta(days=1))
    told = json.loads((await run(tenant, "--since", before, "--until", before, "--json")).output)
    assert (told["since"], told["until"], told["total"]["calls"], told["admitted"]) == (before, before, 0, 0)


async def test_days_that_are_no_span_are_refused(run, tenant):
    for given in (("--since", "2026-02-01", "--until", "2026-01-01"), ("--since", "2020-01-01")):
        result = await run(tenant, *given)
        assert result.exit_code == 1
        assert "--since" in result.output


@pytest.mark.parametrize(
    ("recorded", "admitted", "running", "expected"),
    [
        (5, 5, False, "5 calls were admitted, and all are recorded."),
        (3, 5, False, "2 calls were admitted and not recorded: a process was killed."),
        (3, 5, True, "2 calls were admitted and are not recorded: they still run, or a process was killed."),
        (5, 3, False, "2 calls are recorded that the counter does not know: Redis has lost data."),
        (5, None, False, "How many calls were admitted is not known: Redis does not answer."),
    ],
)
def test_the_two_counts_are_told_together(recorded, admitted, running, expected):
    assert _account(recorded, admitted, running=running) == expected
