"""A write whose answer was lost is answered from what it did; one whose answer arrived is made again."""

from __future__ import annotations

from datetime import timedelta

import orjson

from mercato.server.mcp.delivery import Delivery
from mercato.tenancy.rows import utc_now
from tests.server.replays.replica import Asker, Replica
from tests.server.replays.tools import gates


async def test_a_call_whose_answer_was_lost_gets_it_again_and_does_nothing(here, acme, effects):
    first = await here.call(acme, delivered=False)
    again = await here.call(acme, delivered=True)
    assert again.structured == first.structured
    assert await effects() == 1
    assert here.codes == ["ok", "replayed"]


async def test_every_repeat_gets_the_first_answer(here, there, acme, effects):
    first = await here.call(acme, delivered=False)
    await here.replays.fates.flush()
    answers = [await process.call(acme, delivered=True) for process in (here, there, here)]
    assert {answer.structured for answer in answers} == {first.structured}
    assert await effects() == 1


async def test_the_answer_is_marked_and_says_how_to_force_another_run(here, acme):
    first, began = await here.call(acme, delivered=False), utc_now()
    again = (await here.call(acme)).result()
    at = again.meta["mercato/replayed"]["first_at"]
    assert abs(began - began.fromisoformat(at)) < timedelta(seconds=5)
    assert again.structured_content == orjson.loads(first.structured)
    answer, words = (block.text for block in again.content)
    assert answer == first.structured.decode()
    assert "Nothing was done this time" in words
    assert '`_meta["mercato/idempotency-key"]`' in words


async def test_all_of_the_answer_is_there_again(here, acme):
    first = await here.call(acme, "show", delivered=False)
    again = await here.call(acme, "show")
    assert again.structured == first.structured == '{"text":"ä\u2028"}'.encode()
    assert list(again.content) == list(first.content)
    assert {**again.wire_meta, "mercato/replayed": None} == {"view": {"n": 1}, "mercato/replayed": None}
    assert again.changed == ("probe://one",)
    assert orjson.loads(b"{" + again.wire() + b"}")["structuredContent"] == {"text": "ä\u2028"}


async def test_two_equal_writes_both_run_where_the_first_answer_was_delivered(here, there, acme, effects, rows):
    for process in (here, here, there):
        assert (await process.call(acme, delivered=True)).code == "ok"
        await process.replays.fates.flush()
    assert await effects() == 3
    assert await rows() == []


async def test_without_a_wire_an_answer_counts_as_delivered_when_it_is_there(here, acme, effects):
    assert [(await here.call(acme)).code for _ in range(2)] == ["ok", "ok"]
    assert await effects() == 2


async def test_other_arguments_another_tool_another_principal_or_another_tenant_is_another_call(
    here, runtime, acme, new_tenant, somebody_else, effects
):
    await here.call(acme, delivered=False)
    other = await new_tenant(runtime)
    others = [
        await here.call(acme, name="two", delivered=True),
        await here.call(acme, "keep_soon", delivered=True),
        await here.call(acme, who=somebody_else, delivered=True),
        await here.call(other, delivered=True),
    ]
    assert [outcome.code for outcome in others] == ["ok"] * 4
    assert (await effects(), await effects(other)) == (4, 1)


async def test_after_ten_minutes_the_call_runs_again(here, there, acme, effects):
    await here.call(acme, delivered=False)
    await here.replays.fates.flush()
    there.ahead = timedelta(minutes=9, seconds=58)
    assert (await there.call(acme)).code == "replayed"
    there.ahead = timedelta(minutes=10, seconds=2)
    assert (await there.call(acme)).code == "ok"
    assert await effects() == 2


async def test_what_failed_is_not_remembered(here, acme, effects):
    gates["fails"].open()
    for _ in range(2):
        assert (await here.call(acme, "keep_held", "fails", delivered=False)).code == "error"
    assert await effects() == 0


async def test_a_person_is_not_asked_again(here, acme, effects):
    asker = Asker()
    await here.call(acme, "wipe", client=asker, delivered=False)
    assert (await here.call(acme, "wipe", client=asker)).code == "replayed"
    assert asker.asked == 1
    assert await effects() == 1


async def test_confirming_makes_no_other_call_of_it(here, acme, effects):
    outcomes = [await here.run(acme, "wipe", {"name": "one", "confirm": True}, delivery=lost()) for _ in range(2)]
    assert [outcome.code for outcome in outcomes] == ["ok", "replayed"]
    assert (await here.run(acme, "wipe", {"name": "one"})).code == "replayed"
    assert await effects() == 1


def lost():
    """A delivery whose answer is lost as soon as anybody listens."""

    class Lost(Delivery):
        @property
        def on_settled(self):
            return None

        @on_settled.setter
        def on_settled(self, listener):
            if listener is not None:
                listener(False)

    return Lost()


async def test_an_answer_at_rest_shows_nothing(here, acme, rows):
    await here.call(acme, "make_secret", delivered=False)
    [row] = await rows()
    assert b"mck_hush" not in row.sealed
    assert (await here.call(acme, "make_secret")).structured == b'{"text":"mck_hush"}'


async def test_what_only_reads_never_asks_for_answers(runtime, acme):
    process = Replica(runtime)
    process.replays = None
    assert (await process.run(acme, "look", {}, key="k", delivery=Delivery())).code == "ok"
