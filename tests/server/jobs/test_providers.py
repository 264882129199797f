"""What every provider must do for the ledger. Another one is added to `providers`, and must pass this."""

from __future__ import annotations

import asyncio
import inspect

import anyio
import pytest
from arq.worker import Worker
from redis.exceptions import ConnectionError as RedisConnectionError

from mercato.server.jobs.arq_provider import ArqProvider
from mercato.server.jobs.inline import InlineProvider
from mercato.server.jobs.service import worker_name


class _Inline(InlineProvider):
    async def ring(self, ids):
        await super().ring(ids)
        await self.run()


@pytest.fixture(params=["inline", "arq"])
async def provider(request, mercato_addresses):
    made = _Inline() if request.param == "inline" else ArqProvider(mercato_addresses.redis_url, worker_name(), 4)
    yield made
    await made.stop()


@pytest.fixture
async def arq(mercato_addresses):
    made = ArqProvider(mercato_addresses.redis_url, worker_name(), 4)
    yield made
    await made.stop()


class Handler:
    """Takes down what it is handed, and can be held."""

    def __init__(self, *, held=False):
        self.handled = []
        self.free, self.room = asyncio.Event(), asyncio.Event()
        self.most = self._now = 0
        if not held:
            self.free.set()

    async def __call__(self, job_id):
        self._now += 1
        self.most = max(self.most, self._now)
        self.handled.append(job_id)
        await self.free.wait()
        self._now -= 1

    async def until(self, count):
        with anyio.fail_after(20):
            while len(self.handled) < count:
                await asyncio.sleep(0.001)


async def test_what_is_rung_is_handled(provider):
    handler = Handler()
    await provider.start(handler, handler.room.set)
    for first in (1, 4):
        await provider.ring([first, first + 1, first + 2])
    await handler.until(6)
    assert sorted(handler.handled) == [1, 2, 3, 4, 5, 6]


async def test_an_id_may_come_again(provider):
    handler = Handler()
    await provider.start(handler, handler.room.set)
    for _ in range(3):
        await provider.ring([7])
    await handler.until(3)
    assert handler.handled == [7, 7, 7]


async def test_there_is_room_at_the_start_and_again_when_all_is_done(provider):
    handler = Handler()
    await provider.start(handler, handler.room.set)
    whole = provider.room()
    assert whole >= 1
    await provider.ring([1, 2])
    await handler.until(2)
    with anyio.fail_after(10):
        while provider.room() < whole:
            await asyncio.sleep(0.001)


async def test_once_it_drains_nothing_begins(provider):
    handler = Handler()
    await provider.start(handler, handler.room.set)
    await provider.drain(0)
    assert provider.room() == 0 or isinstance(provider, InlineProvider)


async def test_arq_runs_as_many_at_once_as_it_has_slots_and_tells_of_room(arq):
    handler = Handler(held=True)
    await arq.start(handler, handler.room.set)
    assert arq.room() == 8
    await arq.ring(list(range(8)))
    await handler.until(4)
    assert arq.room() <= 0
    assert handler.most == 4
    handler.free.set()
    with anyio.fail_after(10):
        await handler.room.wait()
    await handler.until(8)
    assert handler.most == 4


async def test_arq_goes_on_when_redis_has_forgotten_everything(arq, mercato_addresses):
    handler = Handler()
    await arq.start(handler, handler.room.set)
    await arq.ring([1])
    await handler.until(1)
    await arq._redis.delete(*[key async for key in arq._redis.scan_iter(f"*{arq._queue}*")] or ["none"])
    await arq.ring([2])
    await handler.until(2)


async def test_arq_begins_within_milliseconds_of_the_ring(arq):
    handler = Handler()
    await arq.start(handler, handler.room.set)
    await asyncio.sleep(0.1)  # it waits for its next look by now
    with anyio.fail_after(0.5):  # its own looks are a second apart
        await arq.ring([1])
        await handler.until(1)


async def test_arq_hands_over_nothing_that_it_had_in_hand_when_it_began_to_drain(arq):
    handler = Handler(held=True)
    await arq.start(handler, handler.room.set)
    await arq.ring(list(range(8)))
    await handler.until(4)
    await arq.drain(0)
    handler.free.set()
    await arq._run({}, 9)
    assert len(handler.handled) == 4


async def test_arq_has_all_its_slots_after_redis_failed_while_it_began_jobs(arq, monkeypatch):
    handler, pipeline, failures = Handler(), arq._redis.pipeline, iter(range(12))

    def failing(transaction=True, **options):
        if transaction and next(failures, None) is not None:
            raise RedisConnectionError("away")
        return pipeline(transaction, **options)

    monkeypatch.setattr("mercato.server.jobs.arq_provider._AWAY_S", 0.001)
    monkeypatch.setattr(arq._redis, "pipeline", failing)
    await arq.start(handler, handler.room.set)
    await arq.ring([1])
    await handler.until(1)


def test_what_is_used_of_arq_and_not_documented_is_there():
    assert inspect.iscoroutinefunction(Worker._poll_iteration)
    assert list(inspect.signature(Worker._poll_iteration).parameters) == ["self"]
    assert list(inspect.signature(Worker.start_jobs).parameters) == ["self", "job_ids"]
    assert list(inspect.signature(Worker._release_sem_dec_counter_on_complete).parameters) == ["self"]
    worker = Worker.__init__.__code__.co_names
    assert {"tasks", "allow_pick_jobs", "max_jobs"} <= set(worker)
