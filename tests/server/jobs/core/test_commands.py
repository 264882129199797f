"""`mercato alerts` and `mercato circuits`."""

from __future__ import annotations

import json

import anyio
import pytest
from typer.testing import CliRunner

from mercato.server.cli import app
from mercato.server.jobs.core.alerting import notice
from mercato.tenancy.alerts import Cause, observe


@pytest.fixture
def command(own, mercato_addresses, tmp_path):
    """Run a command, in a thread of its own."""

    async def run(*arguments):
        given = {
            "MERCATO_DATA_DIR": str(tmp_path),
            "DATABASE_URL": own.url,
            "REDIS_URL": mercato_addresses.redis_url,
            "COLUMNS": "200",
        }
        return await anyio.to_thread.run_sync(lambda: CliRunner().invoke(app, arguments, env=given))

    return run


@pytest.fixture
async def raised(runtime, acme):
    causes = [Cause("circuit.shop", "critical", "It is away.", acme.id), Cause("circuit.other", "warning", "Slow.")]
    await observe(runtime.database, "circuit", causes, notice)


async def test_alerts_are_listed_and_resolved(acme, raised, command):
    listed = json.loads((await command("alerts", "list", "--json")).stdout)
    assert [(one["key"], one["tenant"], one["occurrences"]) for one in listed] == [
        ("circuit.other", None, 1),
        ("circuit.shop", acme.slug, 1),
    ]
    shop = str(listed[1]["id"])
    resolved = await command("alerts", "resolve", shop, "--json")
    assert json.loads(resolved.stdout)["alert"] == listed[1]["id"]
    assert [one["key"] for one in json.loads((await command("alerts", "list", "--json")).stdout)] == ["circuit.other"]
    every = json.loads((await command("alerts", "list", "--all", "--json")).stdout)
    assert [one["resolved_at"] is not None for one in every] == [False, True]
    again = await command("alerts", "resolve", shop)
    assert again.exit_code == 1
    assert "is resolved already" in again.stderr


async def test_alerts_are_a_table_for_people(acme, raised, command):
    shown = (await command("alerts", "list")).stdout
    assert acme.slug in shown
    assert "It is away." in shown


async def test_circuits_that_are_open_are_listed(own, acme, command):
    assert json.loads((await command("circuits", "--json")).stdout) == []
    await own.superuser.execute(
        "insert into mercato.circuits (tenant_id, integration, outages, opened_at, open_until)"
        " values ($1, 'shop', 3, now(), now()), ($1, 'other', 1, null, null)",
        acme.id,
    )
    [shown] = json.loads((await command("circuits", "--json")).stdout)
    assert (shown["tenant_id"], shown["integration"], shown["outages"]) == (acme.id, "shop", 3)
    assert shown["tenant"] == acme.slug
    assert acme.slug in (await command("circuits")).stdout
