"""A client that misbehaves, as a process of its own: `python -m benchmarks.misbehaviour KIND --port N`.

Everything is bounded in count and in time, and it runs at a low priority: of the core that it shares with those who
behave, it gets what they leave. It says in one line of JSON that it has begun, and in another what it did.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress

from benchmarks.listeners import allow_files
from benchmarks.plugin.mercato_bench.shape import ARGUMENTS, MEASURED
from benchmarks.wire import FIRST_ID, MODERN, listen_request, rpc_request

STREAMS, GARBAGE, LARGE, SLOW = 2_000, 10_000, 100, 500
LARGE_BYTES = 5 * 1024 * 1024
_DEPTH = 64
_AT_ONCE = 8
_PATIENCE_S = 10
_DRIP_S = 0.5
_SEED = 1


class Misbehaviour:
    """What it does until its time is over, and a count of what came back."""

    def __init__(self, port: int, key: str, seconds: float) -> None:
        self._port = port
        self._key = key
        self._seconds = seconds
        self._end = time.monotonic() + seconds
        self.seen: Counter[str] = Counter()

    async def nothing(self) -> None:
        """Keep the core busy and send nothing: what is seen then is the measurement's own."""
        while not self._is_over():
            json.loads(json.dumps([ARGUMENTS] * 100))
            self.seen["rounds"] += 1
            await asyncio.sleep(0)

    async def streams(self) -> None:
        """Open streams, one after another as fast as eight at a time can, and hold what is given."""
        request = listen_request(self._port, key=self._key)
        numbers, held = iter(range(STREAMS)), list[asyncio.StreamWriter]()

        async def open_some() -> None:
            for number in numbers:
                if self._is_over():
                    return
                writer = await self._ask(request.render(FIRST_ID + number), "stream")
                if writer is not None:
                    held.append(writer)

        await self._until_over(*(open_some() for _ in range(_AT_ONCE)))
        await asyncio.sleep(max(0.0, self._end - time.monotonic()))

    async def garbage(self) -> None:
        """Send bodies that are no requests, evenly over the time."""
        bodies = garbage(self._port, self._key)
        await self._until_over(*(self._send_evenly(bodies, GARBAGE) for _ in range(_AT_ONCE)))

    async def large(self) -> None:
        """Send bodies that are too large, every other one without saying so beforehand, evenly over the time."""
        bodies = (_large(self._port, self._key, chunked=number % 2 == 1) for number in range(LARGE))
        await self._until_over(*(self._send_evenly(bodies, LARGE) for _ in range(_AT_ONCE)))

    async def slow(self) -> None:
        """Send heads and bodies a byte at a time on many connections, and begin anew where the server hangs up."""
        data = _good(self._port, self._key)
        in_body = data.index(b"\r\n\r\n") + 4

        async def drip(first: int) -> None:
            while not self._is_over():
                with suppress(OSError, TimeoutError):
                    await self._drip(data, first)
                self.seen["hung up"] += 1

        await self._until_over(*(drip(in_body if number % 2 else 4) for number in range(SLOW)))

    async def _drip(self, data: bytes, first: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        self.seen["connections"] += 1
        try:
            writer.write(data[:first])
            for at in range(first, len(data)):
                await writer.drain()
                with suppress(TimeoutError):
                    if not await asyncio.wait_for(reader.read(65_536), _DRIP_S) or self._is_over():
                        return
                writer.write(data[at : at + 1])
        finally:
            writer.close()

    async def _send_evenly(self, bodies: Iterator[bytes], count: int) -> None:
        every_s = self._seconds / count
        for body in bodies:
            if self._is_over():
                return
            self.seen["sent"] += 1
            writer = await self._ask(body, "HTTP")
            if writer is not None:
                writer.close()
            await asyncio.sleep(self.seen["sent"] * every_s - (time.monotonic() - self._end + self._seconds))

    async def _ask(self, data: bytes, what: str) -> asyncio.StreamWriter | None:
        """Send on a connection of its own; count the status; return the connection if it was 200, to be kept."""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            writer.write(data)
            head = await asyncio.wait_for(reader.read(4_096), _PATIENCE_S)
        except (OSError, TimeoutError):
            self.seen[f"{what}: no answer"] += 1
            return None
        status = head[9:12].decode("latin-1") or "hung up"
        self.seen[f"{what} {status}"] += 1
        if status == "200":
            return writer
        writer.close()
        return None

    def _is_over(self) -> bool:
        # Asked in every loop, because a cancellation that meets a time-out is lost in Python 3.11.
        return time.monotonic() >= self._end

    async def _until_over(self, *work: Awaitable[None]) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*work), max(0.0, self._end - time.monotonic()))


def _good(port: int, key: str) -> bytes:
    parameters = {"name": MEASURED, "arguments": ARGUMENTS}
    return rpc_request(port, "tools/call", parameters, MODERN, key=key).render(FIRST_ID)


def garbage(port: int, key: str) -> Iterator[bytes]:
    """Yield requests whose bodies are none, from a seed: bytes, halves, depths, and JSON of other shapes."""
    chance = random.Random(_SEED)
    good = _good(port, key)
    body = good.partition(b"\r\n\r\n")[2]
    makers: tuple[Callable[[], bytes], ...] = (
        lambda: chance.randbytes(chance.randrange(1, 2_000)),
        lambda: body[: chance.randrange(1, len(body))],
        lambda: b"[" * _DEPTH + b"]" * _DEPTH,
        lambda: body.replace(b'"open"', b'{"a":' * _DEPTH + b"1" + b"}" * _DEPTH),
        lambda: b'{"a":' * chance.randrange(1_000, 20_000),
        lambda: b"[" + body + b"," + body + b"]",
        lambda: body.replace(b'"2.0"', b"2.0"),
        lambda: body.replace(str(FIRST_ID).encode(), b"1e999"),
        lambda: body.replace(b"open", b"\\ud800"),
        lambda: body.replace(b"open", b"\xff\xfe"),
        lambda: b'"' + b"x" * chance.randrange(10_000) + b'"',
    )
    head = good.partition(b"content-length")[0]
    for _ in range(GARBAGE):
        made = chance.choice(makers)()
        yield head + b"content-length: %d\r\n\r\n" % len(made) + made


def _large(port: int, key: str, *, chunked: bool) -> bytes:
    head = _good(port, key).partition(b"content-length")[0]
    body = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"' + b"x" * LARGE_BYTES + b'"}}'
    if not chunked:
        return head + b"content-length: %d\r\n\r\n" % len(body) + body
    pieces = (body[at : at + 65_536] for at in range(0, len(body), 65_536))
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return head + b"transfer-encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"


KINDS = {
    "nothing": "the core is kept busy, nothing is sent",
    "streams": f"{STREAMS:,} streams are opened and held",
    "garbage": f"{GARBAGE:,} bodies are garbage",
    "large": f"{LARGE} bodies of {LARGE_BYTES // 1024 // 1024} MB",
    "slow": f"{SLOW} connections send a byte at a time",
}


def main() -> int:
    """Misbehave for a while."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.misbehaviour", description=__doc__)
    parser.add_argument("kind", choices=tuple(KINDS))
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    options = parser.parse_args()
    os.nice(10)
    allow_files(STREAMS + 1_000)
    behaviour = Misbehaviour(options.port, os.environ["BENCH_KEY"], options.seconds)
    print(json.dumps({"began": options.kind}), flush=True)
    asyncio.run(getattr(behaviour, options.kind)())
    print(json.dumps(behaviour.seen), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
