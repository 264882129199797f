"""A connection whose answers leave together: none is lost, none overtakes another, whatever happens meanwhile."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import anyio
import anyio.abc
import pytest

from mercato.server.outbox import Outbox
from mercato.tenancy.tenants import Tenant
from tests.server.conftest import Site, modern, raw_request
from tests.server.test_http import connect, rest_of

Leave = Callable[[], None]
CALL: tuple[str, dict[str, Any]] = ("tools/call", {"name": "echo"})
LIST: tuple[str, dict[str, Any]] = ("tools/list", {})


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> list[Leave]:
    """The answers that wait to leave, for as long as nobody lets them."""
    waiting: list[Leave] = []
    monkeypatch.setattr(Outbox, "put", lambda self, loop, leave: waiting.append(leave))
    return waiting


@pytest.fixture
async def key(site: Site, acme: Tenant) -> str:
    """A key whose caller is at hand, so that its calls go by the lane."""
    key = await site.key(acme)
    async with site.client(key) as client:
        assert (await modern(client, *CALL)).status_code == 200
    return key


async def until(stream: anyio.abc.SocketStream, number: int) -> bytes:
    received = b""
    with anyio.fail_after(10):
        while b'"id":%d,' % number not in received:
            received += await stream.receive()
    return received


async def until_held(held: list[Leave], count: int) -> None:
    with anyio.fail_after(10):
        while len(held) < count:
            await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize("in_one_piece", [True, False])
async def test_calls_and_lists_that_come_at_once_are_answered_in_order(site: Site, key: str, in_one_piece: bool):
    requests = [
        raw_request(site, key, 100 + number, *asked) for number, asked in enumerate([CALL, LIST, CALL, CALL, LIST] * 4)
    ]
    async with await connect(site) as stream:
        for request in [b"".join(requests)] if in_one_piece else requests:
            await stream.send(request)
        received = await until(stream, 99 + len(requests))
    numbers = [int(number) for number in re.findall(rb'"jsonrpc":"2.0","id":(\d+),', received)]
    assert numbers == [100 + number for number in range(len(requests))]


async def test_a_request_that_comes_before_an_answer_has_left_waits_for_that(site: Site, key: str, held: list[Leave]):
    async with await connect(site) as stream:
        await stream.send(raw_request(site, key, 1, *CALL))
        await until_held(held, 1)
        await stream.send(raw_request(site, key, 2, *LIST))
        with anyio.move_on_after(0.05):
            pytest.fail(f"overtaken by {await stream.receive()!r}")
        held.pop()()
        received = await until(stream, 2)
    assert received.index(b'"id":1,') < received.index(b'"id":2,')


async def test_an_answer_leaves_before_the_server_ends_its_connection(site: Site, key: str, held: list[Leave]):
    async with await connect(site) as stream:
        await stream.send(raw_request(site, key, 7, *CALL))
        await until_held(held, 1)
        connection: Any = held[0].__self__
        connection.shutdown()
        received = await rest_of(stream)
    assert received.startswith(b"HTTP/1.1 200")
    assert b'"id":7,' in received


async def test_an_answer_whose_client_has_left_is_dropped(site: Site, key: str, held: list[Leave]):
    for leaves_by in ("abort", "close"):
        async with await connect(site) as stream:
            await stream.send(raw_request(site, key, 8, *CALL))
            await until_held(held, 1)
            connection: Any = held[0].__self__
            getattr(connection.transport, leaves_by)()
            held.pop()()
            assert await rest_of(stream) == b""
    async with site.client(key) as client:
        assert (await client.get("/healthz")).status_code == 200
