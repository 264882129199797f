"""Refreshing: each token once, the same answer to who lost it, and the end of all for who stole it."""

from __future__ import annotations

from datetime import timedelta

import anyio
import pytest
import sqlalchemy as sa
from sqlmodel import col

from mercato.tenancy.audit import list_entries
from mercato.tenancy.client_grants import GRACE, ClientGrant, RefreshAnswer, RefreshTokens
from mercato.tenancy.rows import utc_now
from mercato.tenancy.secrets import KeyRing, new_key
from mercato.tenancy.signing import digest
from tests.server.oauth.conftest import listened, owner_in, settle
from tests.server.oauth.flow import OAuthClient, assert_refused, called, connect, public_client


@pytest.fixture(scope="module")
async def acme(site):
    return await settle(site)


@pytest.fixture(scope="module")
async def ada(site, acme):
    async with owner_in(site, acme) as browser:
        yield browser


@pytest.fixture
async def client(site):
    return await public_client(site.url)


@pytest.fixture
async def tokens(ada, client):
    return await connect(ada, client, category=["probe", "commerce"], write="yes")


def at(replica, client):
    """Return the same client as it calls another process."""
    return OAuthClient(replica.url, client.client_id, client.redirect_uri)


async def pass_time(site, token, by):
    """Let the exchange of a token have been so long ago."""
    changed = sa.update(RefreshAnswer).where(col(RefreshAnswer.digest) == digest(token))
    async with site.runtime.database.system() as session:
        assert (await session.exec(changed.values(rotated_at=utc_now() - by))).rowcount == 1


async def test_a_refresh_gives_another_refresh_token_and_the_same_access(site, client, tokens):
    response = await client.refresh(tokens["refresh_token"])
    assert response.status_code == 200
    assert (response.headers["cache-control"], response.headers["pragma"]) == ("no-store", "no-cache")
    again = response.json()
    assert again.keys() == {"access_token", "token_type", "expires_in", "refresh_token", "scope"}
    assert again["scope"] == tokens["scope"] == "tools:read tools:write commerce probe"
    assert len({again["refresh_token"], tokens["refresh_token"], again["access_token"], tokens["access_token"]}) == 4
    assert (await called(site, again["access_token"])).status_code == 200
    assert (await client.refresh(again["refresh_token"])).status_code == 200


async def test_the_same_refresh_gets_the_same_answer_within_two_minutes(site, client, tokens):
    first = await client.refresh(tokens["refresh_token"])
    await pass_time(site, tokens["refresh_token"], GRACE - timedelta(seconds=10))
    assert timedelta(seconds=120) == GRACE
    second = await client.refresh(tokens["refresh_token"])
    assert second.status_code == 200
    assert second.content == first.content
    assert (await client.refresh(first.json()["refresh_token"])).status_code == 200


async def test_the_same_answer_is_had_on_another_replica_which_has_just_been_started(replica, client, tokens):
    first = await client.refresh(tokens["refresh_token"])
    elsewhere = await at(replica, client).refresh(tokens["refresh_token"])
    assert elsewhere.status_code == 200
    assert elsewhere.content == first.content


async def test_an_answer_that_is_kept_cannot_be_read_in_the_database(site, client, tokens):
    answer = (await client.refresh(tokens["refresh_token"])).json()
    async with site.runtime.database.system() as session:
        statement = sa.select(RefreshAnswer.sealed).where(col(RefreshAnswer.digest) == digest(tokens["refresh_token"]))
        sealed = (await session.exec(statement)).scalar_one()
    for secret in (answer["refresh_token"], answer["access_token"]):
        assert secret.encode() not in sealed


async def test_what_a_refresh_gave_last_still_serves_who_lost_several_answers(client, tokens):
    second = (await client.refresh(tokens["refresh_token"])).json()["refresh_token"]
    third = (await client.refresh(second)).json()["refresh_token"]
    assert (await client.refresh(tokens["refresh_token"])).json()["refresh_token"] == second
    assert (await client.refresh(second)).json()["refresh_token"] == third
    assert (await client.refresh(third)).status_code == 200


@pytest.mark.parametrize("where", ["here", "on another replica"])
async def test_a_refresh_token_that_is_used_late_ends_the_family_everywhere(site, replica, client, tokens, where):
    following = (await client.refresh(tokens["refresh_token"])).json()
    for process in (site, replica):
        assert (await called(process, following["access_token"])).status_code == 200
    await pass_time(site, tokens["refresh_token"], GRACE + timedelta(seconds=1))
    thief = client if where == "here" else at(replica, client)
    async with listened(site, replica) as heard:
        assert_refused(await thief.refresh(tokens["refresh_token"]), "invalid_grant")
        await heard()
    for process in (site, replica):
        for token in (tokens["access_token"], following["access_token"]):
            assert (await called(process, token)).status_code == 401
    for token in (tokens["refresh_token"], following["refresh_token"]):
        assert_refused(await client.refresh(token), "invalid_grant")


async def test_a_refresh_by_another_client_is_refused_and_ends_nothing(site, client, tokens):
    thief = await public_client(site.url)
    assert_refused(await thief.refresh(tokens["refresh_token"]), "invalid_grant")
    following = (await client.refresh(tokens["refresh_token"])).json()
    assert_refused(await thief.refresh(tokens["refresh_token"]), "invalid_grant")  # within the grace of its own client
    await pass_time(site, tokens["refresh_token"], GRACE + timedelta(seconds=1))
    assert_refused(await thief.refresh(tokens["refresh_token"]), "invalid_grant")
    assert (await client.refresh(following["refresh_token"])).status_code == 200


WIDER = ["tools:read tools:write commerce probe content", "content", "tools:admin", "*", "admin", "probe probe content"]


@pytest.mark.parametrize("scope", WIDER)
async def test_a_refresh_cannot_widen_its_scope_and_stays_good(client, tokens, scope):
    assert_refused(await client.refresh(tokens["refresh_token"], scope=scope), "invalid_scope")
    assert (await client.refresh(tokens["refresh_token"])).json()["scope"] == tokens["scope"]


async def test_a_refresh_may_narrow_its_scope_for_one_token_and_not_for_good(client, tokens):
    narrow = (await client.refresh(tokens["refresh_token"], scope="tools:read probe offline_access")).json()
    assert narrow["scope"] == "tools:read probe"
    assert (await client.refresh(narrow["refresh_token"])).json()["scope"] == tokens["scope"]


async def test_a_scope_or_a_token_that_is_far_too_long_is_refused(client, tokens):
    assert_refused(await client.refresh(tokens["refresh_token"], scope="x" * 1_025), "invalid_scope")
    assert_refused(await client.refresh("mcr_" + "x" * 50_000), "invalid_grant")
    assert (await client.refresh(tokens["refresh_token"])).status_code == 200


async def test_a_foreign_resource_is_refused_and_uses_nothing_up(client, tokens):
    for resource in ("https://elsewhere.example/mcp", "nonsense"):
        assert_refused(await client.refresh(tokens["refresh_token"], resource=resource), "invalid_target")
    assert (await client.refresh(tokens["refresh_token"], resource=client.resource)).status_code == 200


async def test_a_refresh_token_that_was_changed_or_made_elsewhere_is_refused_and_ends_nothing(site, client, tokens):
    good = tokens["refresh_token"]
    grant_id = site.runtime.oauth.refresh_tokens.grant_id_of(good)
    elsewhere = RefreshTokens(site.runtime.database, KeyRing.from_text(new_key()))
    for bad in (good[:-1], good[:-1] + ("A" if good[-1] != "A" else "B"), good.removeprefix("mcr_"), good + "="):
        assert_refused(await client.refresh(bad), "invalid_grant")
    for bad in (elsewhere.new(grant_id), tokens["access_token"], "mcr_", "mcr_ä", "x"):
        assert_refused(await client.refresh(bad), "invalid_grant")
    assert_refused(await client.refresh(site.runtime.oauth.refresh_tokens.new(2**62)), "invalid_grant")
    assert (await client.refresh(good)).status_code == 200


async def test_refreshes_that_come_at_once_all_get_the_same_answer_and_the_grant_stands(site, replica, client, tokens):
    responses = []

    async def refresh(process):
        responses.append(await at(process, client).refresh(tokens["refresh_token"]))

    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(refresh, site)
            group.start_soon(refresh, replica)
    assert [response.status_code for response in responses] == [200] * 8
    assert len({response.content for response in responses}) == 1
    assert (await called(site, responses[0].json()["access_token"])).status_code == 200
    assert (await client.refresh(responses[0].json()["refresh_token"])).status_code == 200


async def test_a_grant_that_nobody_refreshes_for_long_ends(site, client, tokens):
    grant_id = site.runtime.oauth.refresh_tokens.grant_id_of(tokens["refresh_token"])
    late = sa.update(ClientGrant).where(col(ClientGrant.id) == grant_id)
    async with site.runtime.database.system() as session:
        await session.exec(late.values(expires_at=utc_now() - timedelta(seconds=1)))
    assert_refused(await client.refresh(tokens["refresh_token"]), "invalid_grant")


async def test_answers_that_are_too_old_to_be_given_again_are_not_kept(site, client, tokens):
    second = (await client.refresh(tokens["refresh_token"])).json()["refresh_token"]
    await pass_time(site, tokens["refresh_token"], GRACE + timedelta(seconds=1))
    await client.refresh(second)
    grant_id = site.runtime.oauth.refresh_tokens.grant_id_of(second)
    async with site.runtime.database.system() as session:
        kept = sa.select(RefreshAnswer.digest).where(col(RefreshAnswer.grant_id) == grant_id)
        assert (await session.exec(kept)).scalars().all() == [digest(second)]


async def test_no_text_of_a_token_is_in_the_database(site, client, tokens):
    grant_id = site.runtime.oauth.refresh_tokens.grant_id_of(tokens["refresh_token"])
    async with site.runtime.database.system() as session:
        row = (await session.exec(sa.select(ClientGrant.__table__).where(col(ClientGrant.id) == grant_id))).one()
    assert tokens["refresh_token"] not in repr(row)
    assert row.refresh_digest == digest(tokens["refresh_token"])


async def test_a_grant_for_an_address_that_is_ours_no_more_asks_to_connect_anew(site, client, tokens):
    grant_id = site.runtime.oauth.refresh_tokens.grant_id_of(tokens["refresh_token"])
    moved = sa.update(ClientGrant).where(col(ClientGrant.id) == grant_id)
    async with site.runtime.database.system() as session:
        await session.exec(moved.values(resource="https://old.example/mcp"))
    for changed in ({}, {"resource": None}):
        assert_refused(await client.refresh(tokens["refresh_token"], **changed), "invalid_grant")


async def test_the_end_of_a_grant_that_no_person_ended_is_in_the_audit(site, acme, client, tokens):
    assert (await client.refresh(tokens["refresh_token"])).status_code == 200
    await pass_time(site, tokens["refresh_token"], GRACE + timedelta(seconds=1))
    assert_refused(await client.refresh(tokens["refresh_token"]), "invalid_grant")
    async with site.runtime.database.tenant(acme.id, read_only=True) as db:
        entry = (await list_entries(db, action="client.end", limit=1)).items[0]
    assert (entry.client_id, entry.user_id, entry.kind) == (client.client_id, None, "token")
    assert "used before" in entry.effect["because"]


async def test_a_grant_that_is_locked_is_answered_try_again_and_holds_up_nobody_else(site, ada, client, tokens):
    grant_id = site.runtime.oauth.refresh_tokens.grant_id_of(tokens["refresh_token"])
    other = await public_client(site.url)
    others = await connect(ada, other, category=["probe"])
    locked = sa.select(col(ClientGrant.id)).where(col(ClientGrant.id) == grant_id).with_for_update()
    async with anyio.create_task_group() as group, site.runtime.database.system() as session:
        await session.exec(locked)
        answers, all_answered = [], anyio.Event()

        async def refresh():
            answers.append(await client.refresh(tokens["refresh_token"]))
            if len(answers) == 3:
                all_answered.set()

        for _ in range(3):
            group.start_soon(refresh)
        with anyio.fail_after(3):  # before anybody gives up waiting for the lock
            assert (await other.refresh(others["refresh_token"])).status_code == 200
            assert (await called(site, others["access_token"])).status_code == 200
        with anyio.fail_after(9):
            await all_answered.wait()
    for answer in answers:
        assert_refused(answer, "temporarily_unavailable", 503)
    assert (await client.refresh(tokens["refresh_token"])).status_code == 200
