"""The Python SDK's own OAuth client, from the first 401 on; a person answers for it in a browser."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from mcp import Client
from mcp.client.auth import OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientInformationFull, OAuthClientMetadata, OAuthToken

from mercato.tenancy.tenants import Tenant
from tests.server.browser import Browser, forms_of
from tests.server.conftest import Site
from tests.server.oauth.flow import answer_of

REDIRECT = "http://127.0.0.1:9124/callback"
ERAS = {"auto": "2026-07-28", "legacy": "2025-11-25"}
pytestmark = pytest.mark.parametrize("mode", ERAS)


@dataclass
class Memory:
    """Where the client keeps what it has."""

    tokens: OAuthToken | None = None
    information: OAuthClientInformationFull | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.information

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.information = client_info


@dataclass
class Desk:
    """A program with the SDK in it, and the person whose browser it opens. `ticks` is what they tick, each time."""

    site: Site
    person: Browser
    ticks: list[dict[str, list[str] | str | None]]
    memory: Memory = field(default_factory=Memory)
    sent: list[tuple[str, str]] = field(default_factory=list)
    asked: list[dict[str, str]] = field(default_factory=list)
    _answer: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        metadata = OAuthClientMetadata(
            client_name="SDK", redirect_uris=[REDIRECT], token_endpoint_auth_method="none", scope=None
        )
        self.provider = OAuthClientProvider(
            f"{self.site.url}/mcp", metadata, self.memory, self._open_browser, self._come_back
        )

    @asynccontextmanager
    async def client(self, mode: str) -> AsyncIterator[Client]:
        """Connect: the first request is refused, and the rest follows from that."""
        hooks = {"response": [self._note]}
        async with (
            httpx2.AsyncClient(auth=self.provider, timeout=20, event_hooks=hooks) as http,
            Client(streamable_http_client(f"{self.site.url}/mcp", http_client=http), mode=mode) as client,
        ):
            assert client.protocol_version == ERAS[mode]
            yield client

    def let_the_token_expire(self) -> None:
        self.provider.context.token_expiry_time = 1.0

    async def _note(self, response: httpx2.Response) -> None:
        self.sent.append((response.request.url.path, str(response.status_code)))

    async def _open_browser(self, url: str) -> None:
        self.asked.append({name: values[0] for name, values in parse_qs(urlsplit(url).query).items()})
        page = await self.person.get(url.removeprefix(self.site.url))
        self._answer = answer_of(await self.person.send(page, "/authorize", decision="allow", **self.ticks.pop(0)))

    async def _come_back(self) -> AuthorizationCodeResult:
        return AuthorizationCodeResult(code=self._answer["code"], state=self._answer["state"], iss=self._answer["iss"])


async def test_it_connects_from_the_first_refusal_with_pkce_and_the_resource_and_lists_what_was_ticked(
    site: Site, acme: Tenant, ada: Browser, mode: str
):
    desk = Desk(site, ada, [{"category": ["probe"], "write": None}])
    async with desk.client(mode) as client:
        listed = {tool.name for tool in (await client.list_tools()).tools}
        said = await client.call_tool("echo", {"text": "hello"})
    reading = [tool for tool in site.runtime.catalog.categories["probe"].tools if tool.read_only]
    assert listed == {tool.name for tool in reading if not tool.requires}
    assert said.structured_content == {"text": f"{acme.slug}: hello"}
    assert desk.sent[:5] == [
        ("/mcp", "401"),
        ("/.well-known/oauth-protected-resource/mcp", "200"),
        ("/.well-known/oauth-authorization-server", "200"),
        ("/register", "201"),
        ("/token", "200"),
    ]
    assert ("/mcp", "401") not in desk.sent[5:]
    [asked] = desk.asked
    assert (asked["resource"], asked["code_challenge_method"]) == (f"{site.url}/mcp", "S256")
    assert asked["scope"] == "tools:read tools:write offline_access"
    assert desk.memory.tokens is not None
    assert desk.memory.tokens.scope == "tools:read probe"
    assert desk.memory.information is not None
    assert desk.memory.information.issuer == site.url


async def test_it_refreshes_without_the_person(site: Site, acme: Tenant, ada: Browser, mode: str):
    desk = Desk(site, ada, [{"category": ["probe"]}])
    async with desk.client(mode) as client:
        before = desk.memory.tokens
        desk.let_the_token_expire()
        said = await client.call_tool("echo", {"text": "again"})
    after = desk.memory.tokens
    assert said.structured_content == {"text": f"{acme.slug}: again"}
    assert before is not None
    assert after is not None
    assert (before.access_token, before.refresh_token) != (after.access_token, after.refresh_token)
    assert before.scope == after.scope
    assert len(desk.asked) == 1


async def test_it_asks_the_person_for_more_where_a_call_needs_more(site: Site, acme: Tenant, ada: Browser, mode: str):
    desk = Desk(site, ada, [{"category": ["probe"], "write": None}, {"category": ["probe"], "write": "yes"}])
    async with desk.client(mode) as client:
        said = await client.call_tool("change", {})
    assert said.structured_content == {"text": "changed"}
    assert ("/mcp", "403") in desk.sent
    first, second = ({*asked["scope"].split()} for asked in desk.asked)
    assert second - first == {"probe"}  # what it has already, beside what it lacks
    assert {"tools:read", "tools:write"} <= first & second
    assert desk.memory.tokens is not None
    assert desk.memory.tokens.scope == "tools:read tools:write probe"


async def test_it_asks_the_person_again_once_they_have_ended_it(site: Site, acme: Tenant, ada: Browser, mode: str):
    desk = Desk(site, ada, [{"category": ["probe"]}, {"category": ["probe"]}])
    async with desk.client(mode) as client:
        page = await ada.get("/clients")
        await ada.send(page, next(form.action for form in forms_of(page) if form.action.endswith("/revoke")))
        said = await client.call_tool("echo", {"text": "back"})
    assert said.structured_content == {"text": f"{acme.slug}: back"}
    assert [path for path, _ in desk.sent].count("/register") == 1
    assert len(desk.asked) == 2
