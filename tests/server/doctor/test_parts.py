"""The parts of the doctor by themselves: addresses, the wire, the listener."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import httpx
import pytest

from mercato.server.doctor import STEPS, Examination, UnusableUrl, Wire, check_url, examine, listening
from mercato.server.doctor.address import difference, origin_of, resource_places, server_places, without_query
from mercato.server.doctor.challenge import parse_challenge
from mercato.server.doctor.endpoint import addresses_of, form_of
from mercato.server.doctor.messages import HANDSHAKE, MODERN, Line, result_of
from mercato.server.doctor.wire import Answer
from tests.server.doctor.examining import findings_about
from tests.server.doctor.fake import FakeServer


@pytest.mark.parametrize(
    ("url", "status", "message"),
    [
        ("https://mcp.example/mcp", "ok", "form is right"),
        ("http://127.0.0.1:8765/mcp", "ok", "form is right"),
        ("http://[::1]:8765/mcp", "ok", "form is right"),
        ("http://mcp.example/mcp", "fault", "only on loopback"),
        ("https://mcp.example/mcp#x", "fault", "fragment"),
        ("https://mcp.example/mcp#", "fault", "fragment"),
        ("https://mcp.example/mcp/", "warning", "slash"),
        ("https://mcp.example", "warning", "no path"),
    ],
)
def test_the_form_of_an_address_is_judged(url: str, status: str, message: str):
    assert [(one.status, message in one.message) for one in form_of(url)] == [(status, True)]


@pytest.mark.parametrize(
    "url", ["", "mcp.example/mcp", "ftp://mcp.example/mcp", "https://", "https://[", "https://a:99999/", "https://a b/"]
)
def test_what_is_no_address_cannot_be_examined(url: str):
    with pytest.raises(UnusableUrl, match="give one like"):
        check_url(url)


def test_a_password_in_the_address_is_not_taken():
    with pytest.raises(UnusableUrl, match="no password") as refusal:
        check_url("https://ada:hunter2@mcp.example/mcp")
    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize(
    ("addresses", "status", "message"),
    [
        (["93.184.216.34", "2001:db8::1"], "ok", "IPv4 too"),
        (["2606:2800:220:1::1"], "fault", "no IPv4"),
        (["10.0.0.7"], "warning", "private"),
        ([], "fault", "does not resolve"),
    ],
)
def test_a_host_is_judged_by_the_addresses_it_resolves_to(addresses: list[str], status: str, message: str):
    (finding,) = addresses_of("mcp.example", addresses)
    assert (finding.status, message in finding.message) == (status, True)


async def test_nothing_is_sent_where_the_host_does_not_resolve(monkeypatch: pytest.MonkeyPatch):
    async def nowhere(host: str) -> list[str]:
        return []

    monkeypatch.setattr("urllib.request.getproxies", dict)
    server = FakeServer()
    findings = await findings_about(server, resolve=nowhere)
    assert [one.status for one in findings] == ["ok", "fault"]
    assert server.seen == []


def test_well_known_places_are_those_of_the_standards_in_the_order_of_clients():
    assert resource_places("https://h.example/a/mcp") == [
        "https://h.example/.well-known/oauth-protected-resource/a/mcp",
        "https://h.example/.well-known/oauth-protected-resource",
    ]
    assert server_places("https://h.example/t") == [
        "https://h.example/.well-known/oauth-authorization-server/t",
        "https://h.example/.well-known/openid-configuration/t",
        "https://h.example/t/.well-known/openid-configuration",
    ]
    assert len(server_places("https://h.example")) == 2


@pytest.mark.parametrize(
    ("said", "how"),
    [
        ("https://h.example/mcp/", "has a trailing slash"),
        ("http://h.example/mcp", "says http instead of https"),
        ("https://h.example:8443/mcp", "names another host"),
        ("http://[", "names another host"),
        ("https://h.example/", "names another path"),
    ],
)
def test_a_difference_of_addresses_is_put_in_words(said: str, how: str):
    assert difference(said, "https://h.example/mcp")[0] == how


def test_an_origin_leaves_out_the_default_port_and_an_address_is_shown_without_its_query():
    assert origin_of("https://h.example:443/x") == "https://h.example"
    assert origin_of("http://[::1]:80/x") == "http://[::1]"
    assert without_query("https://u:p@h.example/x?code=1#f") == "https://h.example/x"


@pytest.mark.parametrize(
    ("header", "parameters"),
    [
        ('Bearer resource_metadata="https://a/b", scope="x y"', {"resource_metadata": "https://a/b", "scope": "x y"}),
        ("bearer error=invalid_token", {"error": "invalid_token"}),
        ('Basic realm="x", Bearer realm="\\"y\\""', {"realm": '"y"'}),
        ('Basic realm="x"', {}),
        ("Bearer", {}),
    ],
)
def test_the_parameters_of_a_challenge_are_read(header: str, parameters: dict[str, str]):
    answer = Answer("https://a/", status=401, headers=httpx.Headers({"www-authenticate": header}))
    assert parse_challenge(answer) == parameters


async def test_an_answer_that_takes_longer_than_the_budget_is_given_up():
    async def hang(request: httpx.Request) -> httpx.Response:
        await anyio.Event().wait()
        raise AssertionError

    async with httpx.AsyncClient(transport=httpx.MockTransport(hang)) as http:
        answer = await Wire(http, budget_s=0.01).get("https://mcp.example/")
    assert answer.failure == "timeout"


async def test_a_stream_is_read_until_its_answer_and_not_to_its_end():
    async def open_stream() -> AsyncIterator[bytes]:
        yield b'event: message\ndata: {"jsonrpc":"2.0","method":"notifications/message","params":{}}\n\n'
        yield b'data: {"jsonrpc":"2.0","id":1,\ndata: "result":{"tools":[]}}\n\n'
        await anyio.Event().wait()

    def stream(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, content=open_stream())

    async with httpx.AsyncClient(transport=httpx.MockTransport(stream)) as http:
        answer = await Line(Wire(http, budget_s=5), "https://mcp.example/mcp", HANDSHAKE).request("tools/list")
    assert result_of(answer) == {"tools": []}


async def test_the_headers_of_each_era_are_its_own():
    seen: list[httpx.Headers] = []

    def keep(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers)
        return httpx.Response(200, json={"jsonrpc": "2.0", "id": 1, "result": {}}, headers={"mcp-session-id": "s"})

    async with httpx.AsyncClient(transport=httpx.MockTransport(keep)) as http:
        for era in (MODERN, HANDSHAKE):
            line = Line(Wire(http), "https://mcp.example/mcp", era, "t")
            await line.hello()
            await line.request("tools/call", {"name": "n", "arguments": {}})
    discover, modern, initialize, handshake = seen
    assert discover["mcp-method"] == "server/discover"
    assert (modern["mcp-protocol-version"], modern["mcp-name"]) == (MODERN, "n")
    assert "mcp-session-id" not in modern
    assert "mcp-protocol-version" not in initialize
    assert (handshake["mcp-protocol-version"], handshake["mcp-session-id"]) == (HANDSHAKE, "s")
    assert all(headers["authorization"] == "Bearer t" for headers in seen)


async def test_the_listener_takes_only_the_request_that_brings_an_answer():
    async with listening() as listener, httpx.AsyncClient(trust_env=False) as browser:
        root = listener.redirect_uri.removesuffix("/callback")
        assert (await browser.get(f"{root}/favicon.ico")).status_code == 404
        assert (await browser.get(listener.redirect_uri)).status_code == 404
        assert await listener.answer(0.01) is None
        assert (await browser.get(f"{listener.redirect_uri}?code=a&state=b")).status_code == 200
        assert await listener.answer(1) == {"code": "a", "state": "b"}


@pytest.mark.parametrize("body", ["", "null", "[]", '"x"', "{", "[" * 10_000, '{"resource": 1}', "\x00\xff"])
@pytest.mark.parametrize("status", [200, 401, 302])
async def test_nothing_that_a_server_says_breaks_the_doctor(body: str, status: int):
    headers = {
        "www-authenticate": 'Bearer resource_metadata="http://["',
        "location": "http://[",
        "content-type": "text/event-stream" if status == 401 else "application/json",
    }

    def odd(request: httpx.Request) -> httpx.Response:
        return httpx.Response(status, headers=headers, text=body)

    async with httpx.AsyncClient(transport=httpx.MockTransport(odd)) as http, listening() as listener:
        url = "http://127.0.0.1:8765/mcp"
        for token in ("", "t"):
            examination = Examination(url, Wire(http), listener, access_token=token)
            findings = [finding async for finding in examine(examination)]
            assert any(one.status == "fault" for one in findings)


@pytest.mark.parametrize("value", [None, 1, "", "http://[", ["x"], {"a": 1}, "https://h.example/\x7f", "javascript:1"])
@pytest.mark.parametrize(
    "name",
    ["issuer", "authorization_endpoint", "token_endpoint", "registration_endpoint", "jwks_uri", "scopes_supported"],
)
async def test_no_value_in_a_document_breaks_the_doctor(name: str, value: object):
    server = FakeServer(
        server_document={name: value},
        resource_document={"scopes_supported": value, "authorization_servers": ["https://mcp.example", value]},
    )
    findings = await findings_about(server, sign_in=None)
    assert {one.step for one in findings} >= {step.name for step in STEPS[:4]}
