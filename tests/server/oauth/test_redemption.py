"""Exchanging a code: once, by the client that it was given to, with what it was asked for with."""

from __future__ import annotations

from datetime import timedelta

import anyio
import pytest
import sqlalchemy as sa
from sqlmodel import col, select

from mercato.tenancy.codes import AuthorizationCode
from mercato.tenancy.memberships import Membership
from mercato.tenancy.rows import utc_now
from mercato.tenancy.signing import digest
from tests.server.oauth.conftest import owner_in, settle
from tests.server.oauth.flow import allow, assert_refused, called, given_to, public_client

CALLBACK = "https://client.example/callback"


@pytest.fixture(scope="module")
async def acme(site):
    return await settle(site)


@pytest.fixture(scope="module")
async def ada(site, acme):
    async with owner_in(site, acme) as browser:
        yield browser


@pytest.fixture
async def client(site):
    return await public_client(site.url, CALLBACK)


async def test_a_code_is_bound_to_the_port_that_it_was_sent_to(site, acme, ada):
    client = await public_client(site.url, "http://127.0.0.1:9123/callback")
    answer = await allow(ada, client, redirect_uri="http://127.0.0.1:52001/callback")
    assert_refused(await client.redeem(answer["code"]), "invalid_grant")


NOT_REDEEMED = {
    "a wrong verifier": ({"code_verifier": "w" * 43}, "invalid_grant"),
    "a verifier that is too short": ({"code_verifier": "short"}, "invalid_grant"),
    "the challenge as the verifier": ({"code_verifier": "the challenge"}, "invalid_grant"),
    "no verifier": ({"code_verifier": None}, "invalid_request"),
    "no code": ({"code": None}, "invalid_request"),
    "an unknown code": ({"code": "unknown"}, "invalid_grant"),
    "a code that is no text": ({"code": "\0"}, "invalid_request"),
    "another redirect": ({"redirect_uri": "https://client.example/other"}, "invalid_grant"),
    "a foreign resource": ({"resource": "https://elsewhere.example/mcp"}, "invalid_target"),
    "a resource that is no resource": ({"resource": "nonsense"}, "invalid_target"),
    "no grant type": ({"grant_type": None}, "invalid_request"),
    "a password grant": ({"grant_type": "password"}, "unsupported_grant_type"),
    "client credentials": ({"grant_type": "client_credentials"}, "unsupported_grant_type"),
    "a code as a refresh token": ({"grant_type": "refresh_token"}, "invalid_request"),
}


@pytest.mark.parametrize("why", NOT_REDEEMED)
async def test_a_code_is_refused_and_gives_nothing(site, acme, ada, client, why):
    changed, error = NOT_REDEEMED[why]
    if why == "the challenge as the verifier":
        changed = {"code_verifier": client.request()["code_challenge"]}
    answer = await allow(ada, client)
    assert_refused(await client.redeem(**{"code": answer["code"], **changed}), error)
    assert await given_to(site, client) == 1  # the code itself


async def test_a_resource_that_is_left_out_is_the_one_that_was_allowed(site, acme, ada, client):
    answer = await allow(ada, client)
    tokens = (await client.redeem(answer["code"], resource=None)).json()
    assert (await called(site, tokens["access_token"])).status_code == 200


async def test_a_wider_resource_than_was_allowed_is_refused_for_a_code_and_for_a_refresh(site, acme, ada, client):
    narrow = f"{site.url}/mcp/x/probe"
    answer = await allow(ada, client, resource=narrow)
    assert_refused(await client.redeem(answer["code"], resource=f"{site.url}/mcp"), "invalid_target")
    tokens = (await client.redeem(answer["code"], resource=narrow)).json()
    refused = await client.refresh(tokens["refresh_token"], resource=f"{site.url}/mcp")
    assert_refused(refused, "invalid_target")
    assert (await client.refresh(tokens["refresh_token"])).status_code == 200


async def test_a_code_of_another_client_is_refused_and_stays_good_for_its_own(site, acme, ada, client):
    thief = await public_client(site.url, CALLBACK)
    thief.verifier = client.verifier
    answer = await allow(ada, client)
    assert_refused(await thief.redeem(answer["code"]), "invalid_grant")
    assert await given_to(site, thief) == 0
    assert (await client.redeem(answer["code"])).status_code == 200


async def test_a_code_that_is_shown_twice_ends_what_it_gave_at_the_next_call(site, replica, acme, ada, client):
    answer = await allow(ada, client)
    tokens = (await client.redeem(answer["code"])).json()
    assert (await called(site, tokens["access_token"])).status_code == 200
    assert_refused(await client.redeem(answer["code"]), "invalid_grant")
    assert (await called(site, tokens["access_token"])).status_code == 401
    assert (await called(replica, tokens["access_token"])).status_code == 401
    assert_refused(await client.refresh(tokens["refresh_token"]), "invalid_grant")


async def test_a_code_that_is_shown_twice_at_once_gives_at_most_once_and_ends_it(site, acme, ada, client):
    answer = await allow(ada, client)
    responses = []

    async def redeem():
        responses.append(await client.redeem(answer["code"]))

    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(redeem)
    [given] = [response.json() for response in responses if response.status_code == 200]
    for response in responses:
        if response.status_code != 200:
            assert_refused(response, "invalid_grant")
    assert (await called(site, given["access_token"])).status_code == 401
    assert await given_to(site, client) == 2


async def test_a_code_expires(site, acme, ada, client):
    answer = await allow(ada, client)
    late = sa.update(AuthorizationCode).where(col(AuthorizationCode.digest) == digest(answer["code"]))
    async with site.runtime.database.system() as session:
        await session.exec(late.values(expires_at=utc_now() - timedelta(seconds=1)))
    assert_refused(await client.redeem(answer["code"]), "invalid_grant")
    assert await given_to(site, client) == 1


async def test_a_code_ends_with_the_membership_of_the_one_who_allowed_it(site, other_tenant, gus, client):
    answer = await allow(gus, client)
    async with site.runtime.database.tenant(other_tenant.id) as db:
        (await db.session.exec(select(Membership))).one().removed_at = utc_now()
    assert_refused(await client.redeem(answer["code"]), "invalid_grant")
    assert await given_to(site, client) == 1
