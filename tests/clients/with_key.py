"""Clients that are given a key."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests.clients.commands import output_of
from tests.clients.seen import LIMIT, TOOL, Seen
from tests.clients.store import Store

Client = Callable[[Store, Path], Seen]


def inspector(store: Store, home: Path) -> Seen:
    return inspected(store.url, home, "--header", f"Authorization: Bearer {store.key}")


def inspected(url: str, home: Path, *options: str) -> Seen:
    """Let MCP Inspector list, and then call, in a process each."""
    base = ["mcp-inspector", "--cli", url, "--transport", "http", *options]
    listed = json.loads(output_of([*base, "--method", "tools/list"], home))
    call = ["--method", "tools/call", "--tool-name", TOOL, "--tool-arg", f"limit={LIMIT}"]
    called = json.loads(output_of([*base, *call], home))
    return Seen(names(listed), len(called["structuredContent"]["products"]))


def mcporter(store: Store, home: Path) -> Seen:
    return ported({"baseUrl": store.url, "headers": {"Authorization": f"Bearer {store.key}"}}, home)


def ported(server: dict[str, object], home: Path, *, sign_in: bool = False) -> Seen:
    """Let mcporter sign in where it must, list, and then call, in a process each."""
    config = home / "config.json"
    config.write_text(json.dumps({"mcpServers": {"mercato": server}, "imports": []}))
    base = ["mcporter", "--config", str(config)]
    if sign_in:
        output_of([*base, "auth", "mercato"], home)
    listed = json.loads(output_of([*base, "list", "mercato", "--json"], home))
    called = json.loads(output_of([*base, "call", f"mercato.{TOOL}", f"limit:{LIMIT}"], home))
    return Seen(names(listed), len(called["products"]))


def typescript(mode: str) -> Client:
    return lambda store, home: scripted(["typescript.mjs", store.url, store.key], mode, home)


def scripted(command: list[str], mode: str, home: Path) -> Seen:
    """Let a script of ours over the TypeScript client list and call."""
    answer = json.loads(output_of(["node", *command, mode], home))
    return Seen(frozenset(answer["tools"]), answer["rows"], mode, answer["version"])


def names(listed: dict[str, list[dict[str, str]]]) -> frozenset[str]:
    return frozenset(tool["name"] for tool in listed["tools"])


CLIENTS: dict[str, Client] = {
    "MCP Inspector": inspector,
    "mcporter": mcporter,
    "TypeScript client, legacy": typescript("legacy"),
    "TypeScript client, auto": typescript("auto"),
}
