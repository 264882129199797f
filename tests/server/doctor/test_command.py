"""The command: what it says, on which stream, and its exit codes."""

from __future__ import annotations

import json

import anyio.to_thread
import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from mercato.server.cli.connector import connector
from tests.server.conftest import listening
from tests.server.doctor.fake import API_KEY, FakeServer

app = typer.Typer()
app.command()(connector)


@pytest.fixture
async def server():
    """A right server that listens on loopback."""
    fake = FakeServer()
    async with listening(lambda port: fake.app()) as site:
        fake.public_url = fake.issuer = site.url
        yield fake


async def run(*arguments: str, **environment: str) -> Result:
    """Run the command in a thread: it has an event loop of its own."""
    given = {"NO_PROXY": "127.0.0.1", **environment}
    return await anyio.to_thread.run_sync(lambda: CliRunner().invoke(app, arguments, env=given))


async def test_each_finding_is_a_line_and_the_last_line_counts(server: FakeServer):
    result = await run(f"{server.public_url}/mcp", "--no-sign-in")
    lines = result.stdout.splitlines()
    assert result.exit_code == 0, result.output
    assert "ok   challenge: 401 with resource_metadata" in lines
    assert (
        lines[-1] == f"ok: {len(lines) - 1}, warnings: 0, faults: 0; left out: sign in, token, refresh, calls, replays"
    )


async def test_a_fault_is_followed_by_its_mend_and_ends_with_1(server: FakeServer):
    server.resource_document = {"resource": f"{server.public_url}/mcp/"}
    result = await run(f"{server.public_url}/mcp", "--no-sign-in")
    lines = result.stdout.splitlines()
    (at,) = (number for number, line in enumerate(lines) if line.startswith("BAD  resource: resource ("))
    assert lines[at + 1].startswith("       mend: Say it without the slash")
    assert result.exit_code == 1


async def test_json_is_one_line_with_the_findings(server: FakeServer):
    result = await run(f"{server.public_url}/mcp", "--no-sign-in", "--json")
    (line,) = result.stdout.splitlines()
    said = json.loads(line)
    assert list(said) == ["url", "ok", "findings"]
    assert said["ok"] is True
    assert all(list(finding) == ["step", "status", "message", "mend"] for finding in said["findings"])


async def test_a_token_from_the_environment_is_used_and_not_shown(server: FakeServer):
    result = await run(f"{server.public_url}/mcp", MERCATO_DOCTOR_TOKEN=API_KEY)
    assert result.exit_code == 0, result.output
    assert "ok   calls: 2026-07-28: greeted in" in result.stdout
    assert API_KEY not in result.output


async def test_where_to_sign_in_is_said_on_stderr(server: FakeServer):
    result = await run(f"{server.public_url}/mcp", "--wait", "1", "--json")
    assert "Open this address in your browser and sign in:" in result.stderr
    assert f"{server.public_url}/authorize?" in result.stderr
    assert [one["step"] for one in json.loads(result.stdout)["findings"] if one["status"] == "fault"] == ["sign in"]


@pytest.mark.parametrize(
    "arguments", [["mcp.example"], ["https://mcp.example/mcp", "--cimd", "x"], [], ["a", "--wait", "0"]]
)
async def test_what_cannot_be_used_ends_with_2(arguments: list[str]):
    result = await run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
