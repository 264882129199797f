"""Redis goes away and comes back: calls go on, nobody waits, and it is said once."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import anyio
import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from mercato.server.limits import Limiter, script
from mercato.server.runtime import Runtime
from tests.server.limits.conftest import Line
from tests.server.limits.world import window


async def back(limiter: Limiter) -> None:
    """Wait until Redis was found again."""
    with anyio.fail_after(5):
        while limiter.local:
            await anyio.lowlevel.checkpoint()


async def test_while_redis_is_away_a_process_counts_for_itself(line: Line, remote: Limiter):
    windows = [window(3)]
    assert await remote.take(windows) is None
    await line.cut()
    assert [await remote.take(windows) is None for _ in range(4)] == [True, True, True, False]
    assert remote.local
    reached = await remote.take(windows)
    assert (reached.limit, reached.most, reached.window_s) == ("tenant", 3, 60)
    assert 60 <= reached.retry_after_s <= 61


async def test_it_comes_back_by_itself_and_counts_where_it_was(line: Line, remote: Limiter):
    windows = [window(3)]
    for _ in range(2):
        await remote.take(windows)
    await line.cut()
    await remote.take([window(3)])
    assert remote.local
    line.mend()
    await back(remote)
    assert [await remote.take(windows) is None for _ in range(2)] == [True, False]
    assert not remote.local


async def test_an_outage_is_told_once_however_many_calls_meet_it(line: Line, remote: Limiter):
    windows = [window(1_000)]
    await line.cut()
    with capture_logs() as logs:
        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(remote.take, windows)
        for _ in range(3):
            await remote.take(windows)
        line.mend()
        await back(remote)
        await remote.take(windows)
    assert [(entry["log_level"], entry["event"][:6]) for entry in logs] == [("warning", "limits"), ("info", "limits")]


async def test_what_is_leased_is_good_during_an_outage(line: Line, remote: Limiter):
    windows = [window(100_000)]
    with anyio.fail_after(5):
        while not remote.take_leased(windows):
            await remote.take(windows)
    await line.cut()
    assert await remote.take([*windows, window(10)]) is None
    assert remote.local


async def test_a_redis_that_does_not_answer_delays_one_call_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async def be_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    monkeypatch.setattr(script, "_TIMEOUT_S", 0.1)
    async with await asyncio.start_unix_server(be_silent, tmp_path / "silent.sock"):
        redis = Redis.from_url(f"unix://{tmp_path / 'silent.sock'}")
        limiter, windows = Limiter(redis), [window(1_000)]
        began = time.monotonic()
        assert await limiter.take(windows) is None
        first_s = time.monotonic() - began
        began = time.monotonic()
        for _ in range(100):
            assert await limiter.take(windows) is None
        others_s = time.monotonic() - began
        assert limiter.local
        await limiter.close()
        await redis.aclose()
    assert first_s >= 0.1
    assert others_s < 0.1


async def test_a_redis_that_is_full_is_away_until_it_has_room(line: Line, remote: Limiter, runtime: Runtime):
    windows = [window(3)]
    await runtime.redis.config_set("maxmemory", 1)
    try:
        assert [await remote.take(windows) is None for _ in range(4)] == [True, True, True, False]
        probes = remote._shared._take
        with anyio.fail_after(5):
            while probes._sender is None:  # the next probe
                await anyio.lowlevel.checkpoint()
            while probes._sender is not None:
                await anyio.lowlevel.checkpoint()
        assert remote.local
    finally:
        await runtime.redis.config_set("maxmemory", 0)
    await back(remote)
    assert await remote.take(windows) is None
    assert not remote.local


async def test_those_who_wait_for_a_redis_that_goes_away_are_all_let_go_at_once(
    line: Line, remote: Limiter, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(script, "_MOST_AT_ONCE", 2)
    windows, passed = [window(1_000)], []

    async def call() -> None:
        passed.append(await remote.take(windows))

    await line.cut()
    async with anyio.create_task_group() as group:
        for _ in range(7):
            group.start_soon(call)
    assert passed == [None] * 7
    assert remote._here.take(windows) is None
    assert remote._here._taken[windows[0].place].total == 8


async def test_a_limiter_that_never_met_an_outage_closes(limiter: Limiter):
    await limiter.close()
    assert not limiter.local


async def test_a_process_that_was_held_up_does_not_count_for_itself(limiter: Limiter):
    windows = [window(2)]
    for _ in range(2):
        assert await limiter.take(windows) is None
    async with anyio.create_task_group() as group:
        taken: list[object] = []

        async def call() -> None:
            taken.append(await limiter.take(windows))

        group.start_soon(call)
        for _ in range(3):
            await anyio.lowlevel.checkpoint()
        until = time.monotonic() + 2 * script._TIMEOUT_S
        while time.monotonic() < until:  # as somebody's long message does
            pass
    assert taken != [None]
    assert not limiter.local
