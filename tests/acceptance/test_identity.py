"""Who gets in, from the command line to the connected client, over real processes."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.acceptance.conftest import ENVIRONMENT, MERCATO, Server, run
from tests.server.browser import PASSWORD, Browser
from tests.server.conftest import envelope
from tests.server.oauth.flow import OAuthClient, connect, public_client


def said(server: Server, *arguments: str, stdin: str | None = None) -> Any:
    """Run a command with --json against the server's data, and return what it said."""
    done = subprocess.run(
        [MERCATO, *arguments, "--json"],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        env={**ENVIRONMENT, "MERCATO_DATA_DIR": str(server.data_dir)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


async def test_the_first_owner_sets_up_by_the_printed_link_and_connects_a_client(data_dir: Path):
    fresh = Server(data_dir)
    try:
        await _set_up_and_connect(fresh)
    finally:
        fresh.stop()
    again = Server(data_dir)
    again.stop()
    assert "setup_url" not in again.ready


async def _set_up_and_connect(fresh: Server) -> None:
    site_url = fresh.url.removesuffix("/mcp")
    async with Browser(site_url) as browser:
        page = await browser.get(fresh.ready["setup_url"])
        home = await browser.send(
            page, "/setup", name="Ada", email="ada@acme.example", password=PASSWORD, business_name="Acme & Söhne"
        )
        assert "Connected clients" in home.text
        assert "Acme &amp; Söhne" in home.text
        assert (await browser.get(fresh.ready["setup_url"])).status_code == 410
        client = await public_client(site_url, client_name="Laptop")
        tokens = await connect(browser, client, write="yes")
        (tenant,) = said(fresh, "tenant", "list")
        assert tenant["name"] == "Acme & Söhne"
        (grant,) = said(fresh, "grant", "list", "--tenant", tenant["slug"])
        assert (grant["client_name"], grant["who"]) == ("Laptop", "Ada")
        assert set(tokens["scope"].split()) == {"tools:read", "tools:write", "commerce", "system"}
        listed = await _listed(fresh, tokens["access_token"])
        assert "list_orders" in listed
        said(fresh, "grant", "revoke", str(grant["id"]), "--tenant", tenant["slug"])
        assert await _listed(fresh, tokens["access_token"]) == 401


async def test_people_are_invited_and_their_passwords_set_from_the_command_line(server: Server):
    site_url = server.url.removesuffix("/mcp")
    invited = said(server, "user", "invite", "bob@demo.example", "--tenant", "demo", "--role", "viewer")
    async with Browser(site_url) as browser:
        page = await browser.get(invited["invitation_url"])
        assert "Demo Store" in page.text
        await browser.send(page, "/invitation", name="Bob", password=PASSWORD)
        assert (await browser.get("/clients")).status_code == 200
        changed = said(server, "user", "password", "bob@demo.example", stdin="another long password\n")
        assert changed == {"email": "bob@demo.example", "password_set": True}
        assert "Sign in" in (await browser.get("/clients")).text
        assert (await browser.sign_in("bob@demo.example")).status_code == 401
        await browser.sign_in("bob@demo.example", "another long password")
        assert said(server, "user", "sign-out", "bob@demo.example")["sessions_ended"] == 1
        assert "Sign in" in (await browser.get("/clients")).text


async def test_a_client_with_a_secret_is_made_used_and_removed_by_the_operator(server: Server):
    site_url = server.url.removesuffix("/mcp")
    redirect = "https://agency.example/callback"
    made = said(server, "client", "create", "Agency", "--redirect-uri", redirect)
    said(server, "user", "password", "owner@demo.example", stdin=f"{PASSWORD}\n")
    client = OAuthClient(site_url, made["client_id"], redirect, auth=(made["client_id"], made["client_secret"]))
    async with Browser(site_url) as browser:
        await browser.sign_in("owner@demo.example")
        tokens = await connect(browser, client, category=["commerce"])
    assert "get_audit_log" not in await _listed(server, tokens["access_token"])
    listed = said(server, "client", "list")
    assert [one["name"] for one in listed if one["kind"] == "static"] == ["Agency"]
    assert made["client_secret"] not in json.dumps(listed)
    assert said(server, "client", "remove", made["client_id"])["tenants"] == 1
    assert await _listed(server, tokens["access_token"]) == 401
    assert (await client.refresh(tokens["refresh_token"])).json()["error"] == "invalid_client"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("client", "create", "X", "--redirect-uri", "javascript:alert(1)"), "redirect_uri must be https"),
        (
            ("client", "create", "X", "--redirect-uri", "https://x.example", "--public", "--introspects"),
            "goes with none",
        ),
        (("client", "remove", "nobody"), "mercato client list"),
        (("grant", "revoke", "999999", "--tenant", "demo"), "no connected client 999999"),
        (("user", "invite", "nonsense", "--tenant", "demo"), "no e-mail address"),
        (("user", "sign-out", "nobody@nowhere.example"), "no account"),
    ],
)
def test_what_a_command_cannot_do_it_says_in_a_sentence(server: Server, arguments: tuple[str, ...], words: str):
    done = run(server.data_dir, *arguments)
    assert done.returncode == 1
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


def test_a_password_that_is_too_short_is_refused_and_the_old_one_stays(server: Server):
    done = subprocess.run(
        [MERCATO, "user", "password", "owner@demo.example"],
        input="short\n",
        capture_output=True,
        text=True,
        timeout=120,
        env={**ENVIRONMENT, "MERCATO_DATA_DIR": str(server.data_dir)},
        check=False,
    )
    assert (done.returncode, "12 characters" in done.stderr) == (1, True)


async def test_the_log_of_a_server_holds_no_secret_of_the_links_and_tokens_it_gave(server: Server):
    site_url = server.url.removesuffix("/mcp")
    invited = said(server, "user", "invite", "eve@demo.example", "--tenant", "demo")["invitation_url"]
    async with Browser(site_url) as browser:
        await browser.send(await browser.get(invited), "/invitation", name="Eve", password=PASSWORD)
        tokens = await connect(browser, await public_client(site_url))
        await browser.get("/keys")
    assert isinstance(await _listed(server, tokens["access_token"]), set)
    log = server.stderr()
    assert {"/invitation", "/authorize", "/token", "/mcp"} <= set(re.findall(r'"path":"([^"]+)"', log))
    given = invited.partition("token=")[2], tokens["access_token"], tokens["refresh_token"]
    for mark in (*given, "token=", "code=", "mcr_", "mcs_", "eyJ", PASSWORD):
        assert mark not in log


async def _listed(server: Server, token: str) -> set[str] | int:
    """Return the names of the tools that a token lists, or the status that refuses it."""
    body, headers = envelope("tools/list")
    async with httpx.AsyncClient(timeout=30) as http:
        accept = "application/json, text/event-stream"
        headers |= {"authorization": f"Bearer {token}", "accept": accept}
        response = await http.post(server.url, json=body, headers=headers)
    if response.status_code != 200:
        return response.status_code
    return {tool["name"] for tool in response.json()["result"]["tools"]}
