"""Clients that sign in: each finds its way from the address alone, and sends the person to a browser, once."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from mcp import Client as Host
from mcp import StdioServerParameters
from mcp.client.stdio import stdio_client

from tests.clients.commands import CACHE, COMMANDS, TIMEOUT_S, environment
from tests.clients.seen import LIMIT, TOOL, VERSIONS, Seen
from tests.clients.store import Store
from tests.clients.with_key import Client, inspected, ported, scripted


def inspector(era: str) -> Client:
    # Its own port is 6276, where another Inspector may listen.
    options = ["--callback-url", "http://127.0.0.1:0/oauth/callback", "--protocol-era", era]
    return lambda store, home: inspected(store.url, home, *options)


def mcporter(store: Store, home: Path) -> Seen:
    return ported({"baseUrl": store.url, "auth": "oauth"}, home, sign_in=True)


def mcp_remote(mode: str) -> Client:
    return lambda store, home: asyncio.run(_bridged(store.url, mode, home))


async def _bridged(url: str, mode: str, home: Path) -> Seen:
    """Be the desktop program that starts mcp-remote as its server."""
    arguments = [url, "--transport", "http-only", "--protocol", mode]
    command = str(COMMANDS / "mcp-remote")
    server = StdioServerParameters(command=command, args=arguments, env=environment(home), cwd=CACHE)
    log = home / "mcp-remote.log"
    try:
        with log.open("w") as errors:
            async with asyncio.timeout(TIMEOUT_S), Host(stdio_client(server, errlog=errors), mode="legacy") as host:
                listed = await host.list_tools()
                called = await host.call_tool(TOOL, {"limit": LIMIT})
    except Exception as error:  # whatever it was to its host, its own last words say more
        raise RuntimeError(log.read_text()[-400:]) from error
    products = (called.structured_content or {}).get("products", [])
    return Seen(frozenset(tool.name for tool in listed.tools), len(products), mode, _spoken(log.read_text()))


def _spoken(log: str) -> str:
    """Return what mcp-remote spoke with the server: to its host it speaks the older protocol either way."""
    found = re.search(r"Remote server speaks MCP (\S+);", log)
    return found[1] if found else VERSIONS["legacy"]


def typescript(mode: str) -> Client:
    return lambda store, home: scripted(["oauth.mjs", store.url], mode, home)


CLIENTS: dict[str, Client] = {
    "MCP Inspector, legacy": inspector("legacy"),
    "MCP Inspector, modern": inspector("modern"),
    "mcporter": mcporter,
    "mcp-remote, legacy": mcp_remote("legacy"),
    "mcp-remote, auto": mcp_remote("auto"),
    "TypeScript client, legacy": typescript("legacy"),
    "TypeScript client, auto": typescript("auto"),
}
