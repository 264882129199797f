"""The idempotency key makes a repeat explicit; a request state counts as one."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.server.replays.replica import Asker


@pytest.mark.parametrize("delivered", [True, False])
async def test_the_same_call_under_the_same_key_gets_the_first_answer(here, there, acme, effects, delivered):
    first = await here.call(acme, key="k", delivered=delivered)
    assert (await here.call(acme, key="k")).structured == first.structured
    await here.replays.fates.flush()
    again = await there.call(acme, key="k")
    assert (again.structured, again.code) == (first.structured, "replayed")
    assert await effects() == 1


async def test_another_body_under_the_same_key_is_refused(here, there, acme, effects):
    await here.call(acme, key="k", delivered=True)
    for process, tool, name in [(here, "keep", "two"), (there, "keep_soon", "one")]:
        refused = await process.call(acme, tool, name, key="k")
        assert refused.code == "idempotency_key_reused"
        assert "new key" in refused.error.text()
    assert await effects() == 1


async def test_a_new_key_forces_another_run(here, acme, effects):
    await here.call(acme, delivered=False)
    assert (await here.call(acme)).code == "replayed"
    assert (await here.call(acme, key="force", delivered=True)).code == "ok"
    assert await effects() == 2


async def test_a_repeat_without_the_key_finds_a_lost_answer_too(here, acme, effects):
    await here.call(acme, key="k", delivered=False)
    assert (await here.call(acme)).code == "replayed"
    assert await effects() == 1


async def test_the_key_of_another_principal_or_tenant_is_another_key(
    here, runtime, acme, new_tenant, somebody_else, effects
):
    other = await new_tenant(runtime)
    await here.call(acme, key="k", delivered=False)
    assert (await here.call(acme, name="two", who=somebody_else, key="k")).code == "ok"
    assert (await here.call(other, name="two", key="k")).code == "ok"
    assert (await effects(), await effects(other)) == (2, 1)


async def test_a_key_is_forgotten_after_ten_minutes(here, there, acme, effects):
    await here.call(acme, key="k", delivered=True)
    await here.replays.fates.flush()
    there.ahead = timedelta(minutes=10, seconds=2)
    assert (await there.call(acme, name="two", key="k")).code == "ok"
    assert await effects() == 2


@pytest.mark.parametrize("key", ["", "x" * 201, 7, ["k"], True])
async def test_what_is_no_key_is_refused_with_an_example(here, acme, effects, key):
    refused = await here.call(acme, key=key)
    assert refused.code == "invalid_arguments"
    assert refused.error.data()["field"] == "mercato/idempotency-key"
    assert await effects() == 0


@pytest.mark.parametrize("key", ["k", "x" * 200, "ключ \ud800 \0"])
async def test_any_text_is_a_key(here, acme, effects, key):
    assert [(await here.call(acme, key=key)).code for _ in range(2)] == ["ok", "replayed"]
    assert await effects() == 1


async def test_a_request_state_is_used_once_whatever_became_of_the_answer(here, there, acme, effects):
    first = await here.call(acme, "wipe", state="s1", delivered=True, client=Asker())
    await here.replays.fates.flush()
    again = await there.call(acme, "wipe", state="s1", client=Asker())
    assert (again.code, again.structured) == ("replayed", first.structured)
    assert (await there.call(acme, "wipe", state="s1", key="new", client=Asker())).code == "replayed"
    assert (await there.call(acme, "wipe", state="s2", client=Asker())).code == "ok"
    assert await effects() == 2
