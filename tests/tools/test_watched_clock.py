"""A clock that somebody else's look goes for: it stops a call whenever that look says that the call lasts."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import anyio
import pytest

from mercato.tools.context import Clock
from mercato.tools.moments import Lasting, Moments


@dataclass
class Looking:
    task: asyncio.Task[Any] | None
    clock: Lasting | None = None
    lasts: bool = False


@pytest.mark.parametrize("lasts_before", [True, False])
async def test_what_takes_too_long_is_stopped_whether_the_call_lasted_before_or_lasts_now(lasts_before: bool):
    looking = Looking(asyncio.current_task(), lasts=lasts_before)
    with anyio.fail_after(5):
        with Clock(0.02, Moments(), looking) as clock:
            if looking.clock is not None and not lasts_before:
                looking.clock.has_lasted()
            await asyncio.Event().wait()
    assert clock.is_over
    assert looking.clock is None


async def test_time_that_is_spent_waiting_for_a_person_does_not_count():
    looking = Looking(asyncio.current_task())
    with Clock(0.05, Moments(), looking) as clock:
        clock.pause()
        assert looking.clock is None
        with anyio.move_on_after(0.1):
            await asyncio.Event().wait()
        clock.go_on()
        await asyncio.sleep(0)
    assert not clock.is_over
