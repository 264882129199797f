"""Windows in Redis: one count for all replicas, by the clock of Redis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import orjson
from redis.asyncio import Redis

from mercato.server.limits.leases import Lease
from mercato.server.limits.script import Script
from mercato.server.limits.windows import SLOTS, Clock, Reached, Window, reached
from mercato.tenancy.signing import digest

_US = 1_000_000


@dataclass(frozen=True, slots=True)
class Ask:
    """One of a window, for a call; with a lease for calls to come, and what is left of the one before."""

    window: Window
    lease: bool = False
    back: Lease | None = None


class SharedWindows:
    """Takes of several windows in one round trip. For tests, `clock` stands in for the clock of Redis."""

    def __init__(self, redis: Redis, window_s: float, clock: Clock | None) -> None:
        self._take = Script(redis, "take.lua")
        self._window_s = window_s
        self._clock = clock
        self._slot_us = math.ceil(window_s * _US / SLOTS)

    async def take(self, asks: Sequence[Ask], asked_at: float) -> Reached | list[Lease]:
        """Take one of each, or nothing; return a lease, be it of nothing, for each, good as seen from `asked_at`."""
        now_us = 0 if self._clock is None else int(self._clock() * _US)
        given = orjson.dumps([self._slot_us, SLOTS, now_us, *map(_numbers, asks)])
        full, us, *leased = await self._take([_key(ask.window) for ask in asks], given)
        if full:
            return reached(asks[full - 1].window, self._window_s, us / _US)
        until = asked_at + us / _US  # we asked before Redis looked at its clock: never too late
        return [Lease(slot, left, until) for slot, left in zip(leased[::2], leased[1::2], strict=True)]


def _numbers(ask: Ask) -> tuple[int, int, int, int]:
    slot, left = (0, 0) if ask.back is None else (ask.back.slot, ask.back.left)
    return ask.window.most, int(ask.lease), slot, left


def _key(window: Window) -> str:
    return f"mercato:limit:{window.name}:{digest(window.place).hex()}"
