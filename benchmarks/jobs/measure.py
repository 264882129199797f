"""What is measured of a queue, alike for all of them. Needs nothing but Python: peers run it in their environment."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

LOT = 100
SLOTS = 20
_LATENCIES = 150
_SETTLE_S, _APART_S = 2.0, (0.03, 0.06)
_LONGEST_S = 300


class Begun:
    """When each job began, by its number."""

    def __init__(self) -> None:
        self.at: dict[int, float] = {}
        self._count, self._reached = 0, asyncio.Event()

    def note(self, number: int) -> None:
        """Note that it begins now."""
        self.at[number] = time.perf_counter()
        if len(self.at) >= self._count:
            self._reached.set()

    async def until(self, count: int) -> None:
        """Wait until so many have."""
        self._count = count
        self._reached.clear()
        if len(self.at) < count:
            async with asyncio.timeout(_LONGEST_S):
                await self._reached.wait()


class Queue(Protocol):
    """A queue whose jobs do nothing but tell `Begun` their number."""

    async def put(self, numbers: Sequence[int]) -> None:
        """Ask for these, in one transaction where there are any."""

    def working(self) -> AbstractAsyncContextManager[None]:
        """Work for as long as the block lasts."""


async def measure(queue: Queue, begun: Begun, jobs: int) -> dict[str, float]:
    """Ask for jobs one by one and in lots, run them all, and then one now and then."""
    ones = max(LOT, jobs // 3 // LOT * LOT)
    put_per_s = await _put(queue, range(ones), 1)
    lots_per_s = await _put(queue, range(ones, jobs), LOT)
    async with queue.working():
        cpu_s = time.process_time()
        await begun.until(jobs)
        cpu_s = time.process_time() - cpu_s
        drained_per_s = (jobs - 1) / (max(begun.at.values()) - min(begun.at.values()))
        await asyncio.sleep(_SETTLE_S)
        waits_ms = await _waits(queue, begun, jobs)
    if strange := begun.at.keys() - set(range(jobs + _LATENCIES)):
        raise RuntimeError(f"jobs began that nobody asked for here: {sorted(strange)[:9]}")
    return {
        "put_per_s": put_per_s,
        "lots_per_s": lots_per_s,
        "drained_per_s": drained_per_s,
        "cpu_us": cpu_s / jobs * 1e6,
        "p50_ms": waits_ms[len(waits_ms) // 2],
        "p95_ms": waits_ms[len(waits_ms) * 95 // 100],
    }


async def _put(queue: Queue, numbers: range, at_once: int) -> float:
    began = time.perf_counter()
    for offset in range(0, len(numbers), at_once):
        await queue.put(numbers[offset : offset + at_once])
    return len(numbers) / (time.perf_counter() - began)


async def _waits(queue: Queue, begun: Begun, first: int) -> list[float]:
    """Return, in order, how many milliseconds after it was committed each of some jobs began, on an idle queue."""
    waits_ms = []
    for number in range(first, first + _LATENCIES):
        await queue.put([number])
        committed = time.perf_counter()
        await begun.until(number + 1)
        if number not in begun.at:
            raise RuntimeError(f"another job began than {number}: {sorted(begun.at)[-1]}")
        waits_ms.append(max(0.0, begun.at[number] - committed) * 1000)
        await asyncio.sleep(random.uniform(*_APART_S))
    return sorted(waits_ms)


def tell(found: dict[str, float]) -> None:
    """Print what was found, for the driver."""
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()
