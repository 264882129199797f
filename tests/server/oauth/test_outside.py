"""Reading from outside, at an address that a stranger has chosen: public ones alone, in little time and few bytes."""

from __future__ import annotations

import asyncio
import socket
import threading

import anyio
import httpx
import pytest

from mercato.server.oauth import outside
from mercato.server.oauth.outside import Outside, Unreachable
from tests.server.oauth.world import PUBLIC, World


@pytest.fixture
def world():
    return World()


@pytest.fixture
def url():
    return "https://client.example/client.json"


PRIVATE = [
    "127.0.0.1",
    "127.8.9.1",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "169.254.169.254",
    "192.0.2.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "fe80::1",
    "fe80::1%eth0",
    "fc00::1",
    "fd00:ec2::254",
    "ff02::1",
    "2001:db8::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a00:1",
    "64:ff9b:1::7f00:1",
    "2002:7f00:1::",
    "2002:a00:1::1",
    "2001::f5ff:fffe",
    "2001:0:a00:1::1",
    "fec0::1",
    "nonsense",
]


@pytest.mark.parametrize("address", PRIVATE)
async def test_no_address_that_is_not_public_is_ever_called(world, url, address):
    for addresses in ([address], [PUBLIC, address], [address, PUBLIC]):
        world.addresses = addresses
        with pytest.raises(Unreachable, match="not a public address"):
            await Outside(world, world.resolve).read(url)
    assert world.requests == []


@pytest.mark.parametrize("address", [PUBLIC, "8.8.8.8", "2606:4700::1111"])
async def test_an_address_that_is_public_is_called_itself_and_not_its_name(world, url, address):
    world.publishes(b"{}")
    world.addresses = [address]
    await Outside(world, world.resolve).read(url)
    [request] = world.requests
    assert (request.url.host, request.headers["host"], world.resolved) == (address, "client.example", 1)


HOSTS = [
    "127.0.0.1",
    "2130706433",
    "0x7f000001",
    "0177.0.0.1",
    "127.1",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "localhost",
    "0",
]


@pytest.mark.parametrize("host", HOSTS)
async def test_this_computer_is_not_called_however_it_is_written(world, host):
    reads = Outside(world)
    with pytest.raises(Unreachable):
        await reads.read(f"https://{host}/client.json")
    await reads.aclose()
    assert world.requests == []


@pytest.mark.parametrize(
    "url", ["http://client.example/a", "ftp://client.example/a", "https:///a", "https://u@a.example/b"]
)
async def test_only_https_is_read(world, url):
    with pytest.raises(Unreachable):
        await Outside(world, world.resolve).read(url)
    assert (world.requests, world.resolved) == ([], 0)


async def test_a_name_that_stands_for_nothing_is_unreachable(world, url):
    for nothing in ([], OSError("no such host")):
        world.addresses = nothing
        with pytest.raises(Unreachable):
            await Outside(world, world.resolve).read(url)


async def test_what_is_endless_is_not_read_to_its_end(world, url):
    sent = 0

    async def endless():
        nonlocal sent
        while True:
            sent += 1_000
            yield b" " * 1_000

    world.answer = httpx.Response(200, content=endless())
    with pytest.raises(Unreachable, match="longer than 5,120 bytes"):
        await Outside(world, world.resolve).read(url)
    assert sent < 10_000


async def slow_to_resolve(world):
    async def resolve(host, port):
        await anyio.sleep_forever()

    return Outside(world, resolve)


async def slow_to_answer(world):
    class Slow(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request):
            await anyio.sleep_forever()

    return Outside(Slow(), world.resolve)


async def slow_to_send(world):
    async def drip():
        yield b"{"
        await anyio.sleep_forever()

    world.answer = httpx.Response(200, content=drip())
    return Outside(world, world.resolve)


@pytest.mark.parametrize("make", [slow_to_resolve, slow_to_answer, slow_to_send])
async def test_what_is_slow_is_given_up(world, url, monkeypatch, make):
    monkeypatch.setattr(outside, "LONGEST_S", 0.05)
    with anyio.fail_after(5):
        with pytest.raises(Unreachable, match="did not answer"):
            await (await make(world)).read(url)


async def test_names_that_nobody_answers_for_hold_up_no_other_look_up_of_the_process(monkeypatch):
    release, began, real = threading.Event(), threading.Semaphore(0), socket.getaddrinfo

    def slow(host, *arguments, **options):
        if str(host).endswith(".slow.example"):
            began.release()
            release.wait(30)
            raise OSError
        return real(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    monkeypatch.setattr("mercato.server.oauth.outside.LONGEST_S", 20)
    reads, refused = Outside(), []

    async def read(number):
        try:
            await reads.read(f"https://{number}.slow.example/client.json")
        except Unreachable:
            refused.append(number)

    try:
        async with anyio.create_task_group() as group:
            for number in range(12):
                group.start_soon(read, number)
            with anyio.fail_after(10):
                for _ in range(8):  # more than the loop's own threads on two cores
                    await anyio.to_thread.run_sync(began.acquire, abandon_on_cancel=True)
                assert await asyncio.get_running_loop().getaddrinfo("127.0.0.1", 80)
            assert refused == []
            release.set()
        assert sorted(refused) == list(range(12))
    finally:
        release.set()
        await reads.aclose()
