"""A crowd: many sessions, each all over the replicas, and every one gets its own answers."""

from __future__ import annotations

import itertools
import random

import anyio

from tests.server.conftest import Site
from tests.server.sessions.client import McpClient, call
from tests.server.sessions.slow import gates


async def test_a_crowd_that_goes_to_any_replica_gets_every_answer(
    replicas: tuple[Site, Site, Site], connect, shop, other_shop
):
    chance = random.Random(7)
    gates[shop.slug].opened.set()
    clients = [await connect(shop if number % 2 else other_shop) for number in range(12)]

    async def live(client: McpClient, seed: int) -> None:
        own = random.Random(seed)
        anywhere = lambda: own.choice(replicas)  # noqa: E731
        await client.open(anywhere())
        for number in range(1, 13):
            kind = own.choice(("echo", "progress", "resumed", "asked"))
            if kind == "echo":
                answer = (await client.call(anywhere(), "echo", number, text=f"{seed}-{number}")).json()
                assert answer["result"]["structuredContent"]["text"].endswith(f"{seed}-{number}")
            elif kind == "progress":
                async with client.streamed(anywhere(), call("step", number, token="p", gate=shop.slug)) as stream:
                    assert (await stream.rest())[-1].message["id"] == number
            elif kind == "resumed":
                async with client.streamed(anywhere(), call("step", number, token="p", gate=shop.slug)) as stream:
                    primed = await stream.next()
                async with client.listening(anywhere(), primed.id) as stream:
                    assert (await stream.rest())[-1].message["id"] == number
            else:
                async with client.streamed(anywhere(), call("ask", number)) as stream:
                    question = await stream.message()
                    result = {"action": "accept", "content": {"name": f"{seed}-{number}"}}
                    await client.post(anywhere(), {"jsonrpc": "2.0", "id": question["id"], "result": result})
                    answer = await stream.message()
                    assert answer["result"]["structuredContent"] == {"text": f"Hello, {seed}-{number}!"}

    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            for client, seed in zip(clients, itertools.count(chance.randrange(1_000)), strict=False):
                group.start_soon(live, client, seed)
