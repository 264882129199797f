"""Definitions as bytes: each tool's is made once for each version of the protocol, and lists are joined from them."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

import mcp_types as mcp
import orjson
from mcp.server import Server
from mcp_types import SERVER_INFO_META_KEY
from mcp_types.methods import serialize_server_result
from mcp_types.version import LATEST_MODERN_VERSION, MODERN_PROTOCOL_VERSIONS

from mercato.plugins.catalog import Catalog
from mercato.server.auth.directory import Caller
from mercato.server.mcp.wire import wire_tool
from mercato.tools.tool import Tool

HEADER = "x-mcp-header"
_MOST_LISTS = 64


class Definitions:
    """What lists and results are made of on the wire, for one catalogue."""

    def __init__(self, catalog: Catalog, server: Server[Any]) -> None:
        self._catalog = catalog
        self._server = server
        self._stamp = {SERVER_INFO_META_KEY: server.server_info_stamp}
        self._complete = b',"resultType":"complete","_meta":' + orjson.dumps(self._stamp) + b"}"
        self._tools: dict[tuple[str, str], bytes] = {}
        self._lists: dict[tuple[str, ...], _List] = {}
        self._with_headers = {tool.name for tool in catalog.tools.values() if HEADER in str(tool.input_schema)}

    def has_headers(self, tool: Tool) -> bool:
        """Whether parameters of this tool travel as HTTP headers too, which must then be compared."""
        return tool.name in self._with_headers

    def result(self, members: bytes, meta: Mapping[str, Any] | None, *, is_modern: bool) -> bytes:
        """Return the result of a call from its members."""
        if is_modern:
            if not meta:
                return b"{" + members + self._complete
            stamped = orjson.dumps({**meta, **self._stamp})
            return b"{" + members + b',"resultType":"complete","_meta":' + stamped + b"}"
        return b"{" + members + (b',"_meta":' + orjson.dumps(dict(meta)) + b"}" if meta else b"}")

    def tools(self, caller: Caller, version: str) -> bytes:
        """Return the list of all tools that a caller may call now."""
        place = f"tools/list {version}"
        known: weakref.ref[_List] | None = caller.memo.get(place)
        kept = None if known is None else known()
        if kept is None:
            kept = self._list((version, *(tool.name for tool in caller.sees(self._catalog).tools())))
            # Not held by the caller: one key has as many callers as there are addresses.
            caller.memo[place] = weakref.ref(kept)
        return kept.joined

    def discovered(self, caller: Caller) -> bytes:
        """Return the answer to `server/discover`."""
        kept: bytes | None = caller.memo.get("server/discover")
        if kept is None:
            found = mcp.DiscoverResult(
                supported_versions=list(MODERN_PROTOCOL_VERSIONS),
                capabilities=self._server.get_capabilities(protocol_version=LATEST_MODERN_VERSION),
                instructions=caller.sees(self._catalog).instructions(),
            )
            dumped = found.model_dump(by_alias=True, mode="json", exclude_none=True)
            sieved = serialize_server_result(
                "server/discover", LATEST_MODERN_VERSION, dumped | self._hint("server/discover")
            )
            kept = caller.memo["server/discover"] = orjson.dumps(sieved | {"_meta": self._stamp})
        return kept

    def _list(self, key: tuple[str, ...]) -> _List:
        kept = self._lists.get(key)
        if kept is None:
            if len(self._lists) >= _MOST_LISTS:
                del self._lists[next(iter(self._lists))]
            kept = self._lists[key] = _List(self._joined(*key))
        return kept

    def _joined(self, version: str, *names: str) -> bytes:
        joined = b'{"tools":[' + b",".join(self._tool(version, name) for name in names) + b"]"
        if version not in MODERN_PROTOCOL_VERSIONS:
            return joined + b"}"
        return joined + b"," + orjson.dumps(self._hint("tools/list"))[1:-1] + self._complete

    def _tool(self, version: str, name: str) -> bytes:
        """Return one definition, as the SDK would send it in this version."""
        if (version, name) not in self._tools:
            listed = mcp.ListToolsResult(tools=[wire_tool(self._catalog.tools[name])], ttl_ms=0, cache_scope="private")
            dumped = listed.model_dump(by_alias=True, mode="json", exclude_none=True)
            sieved = serialize_server_result("tools/list", version, dumped)
            self._tools[version, name] = orjson.dumps(sieved["tools"][0])
        return self._tools[version, name]

    def _hint(self, method: str) -> dict[str, Any]:
        hint = self._server.cache_hints[method]
        return {"ttlMs": hint.ttl_ms, "cacheScope": hint.scope}


class _List:
    """A list that was joined, for as long as it is kept here."""

    __slots__ = ("__weakref__", "joined")

    def __init__(self, joined: bytes) -> None:
        self.joined = joined
