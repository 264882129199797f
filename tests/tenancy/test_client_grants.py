from __future__ import annotations

import secrets
from datetime import timedelta

import pytest
from sqlmodel import select

from mercato.tenancy import client_grants
from mercato.tenancy.client_grants import (
    GRACE,
    IDLE_FOR,
    ClientGrant,
    RefreshTokens,
    Refused,
    authenticate_grant,
    end_grant,
    list_grants,
    revoke_grant,
)
from mercato.tenancy.codes import AuthorizationCode, Redemption, challenge_of, issue_code, redeem_code
from mercato.tenancy.errors import NotFound
from mercato.tenancy.memberships import Role, add_member
from mercato.tenancy.removal import remove_member
from mercato.tenancy.rows import utc_now
from mercato.tenancy.secrets import KeyRing, new_key
from mercato.tenancy.tenants import TenantRecord

VERIFIER = "v" * 43
ALL = frozenset({"tools:read", "tools:write", "probe", "commerce"})


@pytest.fixture
def refresh_tokens(runtime):
    return RefreshTokens(runtime.database, runtime.ring)


@pytest.fixture
async def ulf(database, tenant):
    """A member who administers nothing."""
    return await add_member(database, tenant.id, f"{secrets.token_hex(4)}@acme.example", "Ulf", Role.MEMBER)


@pytest.fixture
def granted(database, refresh_tokens):
    async def make(member, client_id="client", scopes=("tools:read", "probe")):
        code = AuthorizationCode(
            tenant_id=member.tenant_id,
            membership_id=member.id,
            client_id=client_id,
            client_name="Client",
            redirect_uri="https://client.example/",
            redirect_host="client.example",
            challenge=challenge_of(VERIFIER),
            scopes=list(scopes),
            resource="https://here.example/mcp",
        )
        text = await issue_code(database, code)
        shown = Redemption(
            code=text, client_id=client_id, verifier=VERIFIER, redirect_uri=None, is_for=lambda resource: True
        )
        return await redeem_code(database, refresh_tokens, shown)

    return make


@pytest.fixture
def later(monkeypatch):
    """Let time have passed."""

    def pass_time(by):
        monkeypatch.setattr(client_grants, "utc_now", lambda: utc_now() + by)

    return pass_time


def in_an_hour():
    return utc_now() + timedelta(hours=1)


def answer(grant, following):
    return following.encode()


def broken(grant, following):
    raise ValueError(following)


async def test_a_grant_speaks_for_its_member_with_the_scopes_that_grant_and_token_share(database, granted, ulf):
    grant, _ = await granted(ulf)
    principal = await authenticate_grant(database, grant.id, ALL, in_an_hour())
    assert (principal.tenant_id, principal.user_id, principal.role) == (ulf.tenant_id, ulf.user_id, Role.MEMBER)
    assert principal.scopes == {"tools:read", "probe"}
    assert principal.categories == {"probe"}
    assert (principal.kind, principal.client_id, principal.grant_id) == ("token", "client", grant.id)
    narrow = await authenticate_grant(database, grant.id, frozenset({"tools:read"}), in_an_hour())
    assert (narrow.scopes, narrow.categories) == ({"tools:read"}, frozenset())
    assert not narrow.covers("probe")
    assert await authenticate_grant(database, 2**62, ALL, in_an_hour()) is None


async def test_a_token_is_exchanged_once_and_gives_the_same_for_two_minutes(refresh_tokens, granted, ulf, later):
    _, token = await granted(ulf)
    first = await refresh_tokens.rotate(token, "client", answer)
    assert first != token.encode()
    later(GRACE - timedelta(seconds=1))
    assert await refresh_tokens.rotate(token, "client", broken) == first
    later(GRACE + timedelta(seconds=1))
    with pytest.raises(Refused) as refusal:
        await refresh_tokens.rotate(token, "client", answer)
    assert refusal.value.ended == ulf.tenant_id
    with pytest.raises(Refused) as refusal:
        await refresh_tokens.rotate(first.decode(), "client", answer)
    assert refusal.value.ended is None


async def test_an_exchange_whose_answer_fails_uses_nothing_up(refresh_tokens, granted, ulf):
    _, token = await granted(ulf)
    with pytest.raises(ValueError):
        await refresh_tokens.rotate(token, "client", broken)
    assert await refresh_tokens.rotate(token, "client", answer)


async def test_another_client_gets_nothing_and_ends_nothing(refresh_tokens, granted, ulf, later):
    _, token = await granted(ulf)
    await refresh_tokens.rotate(token, "client", answer)
    for by in (timedelta(0), GRACE + timedelta(seconds=1)):
        later(by)
        with pytest.raises(Refused) as refusal:
            await refresh_tokens.rotate(token, "another", answer)
        assert refusal.value.ended is None


async def test_a_token_that_was_made_with_another_ring_is_none_of_ours(database, refresh_tokens, granted, ulf):
    grant, token = await granted(ulf)
    elsewhere = RefreshTokens(database, KeyRing.from_text(new_key()))
    assert refresh_tokens.grant_id_of(token) == grant.id
    assert elsewhere.grant_id_of(token) is None
    for wrong in (elsewhere.new(grant.id), token[4:], token + "x", token[:-1], "mcr_", "", "mcr_ä"):
        assert refresh_tokens.grant_id_of(wrong) is None
        with pytest.raises(Refused, match="not one of ours"):
            await refresh_tokens.rotate(wrong, "client", answer)


async def test_a_grant_ends_when_it_is_not_refreshed_for_long_and_each_refresh_prolongs_it(
    database, refresh_tokens, granted, ulf, later
):
    grant, token = await granted(ulf)
    later(IDLE_FOR - timedelta(days=1))
    following = (await refresh_tokens.rotate(token, "client", answer)).decode()
    later(2 * IDLE_FOR - timedelta(days=2))
    assert await authenticate_grant(database, grant.id, ALL, in_an_hour()) is not None
    later(2 * IDLE_FOR)
    assert await authenticate_grant(database, grant.id, ALL, in_an_hour()) is None
    with pytest.raises(Refused):
        await refresh_tokens.rotate(following, "client", answer)


async def assert_over(database, refresh_tokens, grant, token):
    assert await authenticate_grant(database, grant.id, ALL, in_an_hour()) is None
    with pytest.raises(Refused):
        await refresh_tokens.rotate(token, "client", answer)


async def test_a_grant_ends_with_its_membership(database, tenant, refresh_tokens, granted, ulf):
    grant, token = await granted(ulf)
    async with database.tenant(tenant.id) as db:
        await remove_member(db, ulf.id)
    await assert_over(database, refresh_tokens, grant, token)


async def test_a_grant_ends_with_its_tenant(database, tenant, refresh_tokens, granted, ulf):
    grant, token = await granted(ulf)
    async with database.system() as session:
        (await session.get(TenantRecord, tenant.id)).removed_at = utc_now()
    await assert_over(database, refresh_tokens, grant, token)


async def test_a_grant_that_a_person_ended_stays_ended_and_says_why(database, tenant, refresh_tokens, granted, ulf):
    grant, token = await granted(ulf)
    moments = set()
    for _ in range(2):
        async with database.tenant(tenant.id) as db:
            moments.add((await revoke_grant(db, grant.id)).revoked_at)
    assert len(moments) == 1
    await assert_over(database, refresh_tokens, grant, token)
    async with database.tenant(tenant.id) as db:
        [row] = await db.rows(select(ClientGrant).where(ClientGrant.id == grant.id))
        assert row.revoked_because == "a person ended it"
        assert await list_grants(db) == []


async def test_a_client_ends_its_own_grants_only(database, granted, ulf):
    grant, _ = await granted(ulf)
    assert await end_grant(database, grant.id, "another", "because") is None
    assert await authenticate_grant(database, grant.id, ALL, in_an_hour()) is not None
    assert await end_grant(database, grant.id, "client", "because") == ulf.tenant_id
    assert await end_grant(database, grant.id, "client", "because") is None
    assert await authenticate_grant(database, grant.id, ALL, in_an_hour()) is None


async def test_a_member_finds_and_ends_their_own_grants_only(database, tenant, granted, ulf):
    other = await add_member(database, tenant.id, f"{secrets.token_hex(4)}@acme.example", "Vera", Role.MEMBER)
    of_ulf, _ = await granted(ulf)
    of_vera, _ = await granted(other)
    async with database.tenant(tenant.id) as db:
        assert [one.id for one in await list_grants(db)] == [of_vera.id, of_ulf.id]
        assert [one.id for one in await list_grants(db, user_id=ulf.user_id)] == [of_ulf.id]
        with pytest.raises(NotFound):
            await revoke_grant(db, of_vera.id, user_id=ulf.user_id)
    assert await authenticate_grant(database, of_vera.id, ALL, in_an_hour()) is not None


async def test_a_grant_of_another_tenant_is_neither_found_nor_ended(database, other_tenant, granted, ulf):
    grant, _ = await granted(ulf)
    async with database.tenant(other_tenant.id) as db:
        assert await list_grants(db) == []
        with pytest.raises(NotFound):
            await revoke_grant(db, grant.id)
    assert await authenticate_grant(database, grant.id, ALL, in_an_hour()) is not None
