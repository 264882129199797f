from __future__ import annotations

import secrets
from datetime import timedelta

import anyio
import pytest
import sqlalchemy as sa
from sqlmodel import col

from mercato.tenancy import codes
from mercato.tenancy.client_grants import KEPT_FOR, ClientGrant, RefreshTokens, Refused, WrongResource
from mercato.tenancy.codes import GOOD_FOR, AuthorizationCode, Redemption, challenge_of, issue_code, redeem_code
from mercato.tenancy.memberships import Role, add_member
from mercato.tenancy.rows import utc_now
from mercato.tenancy.signing import digest

VERIFIER = "v" * 43


@pytest.fixture
def refresh_tokens(runtime):
    return RefreshTokens(runtime.database, runtime.ring)


@pytest.fixture
async def member(database, tenant):
    return await add_member(database, tenant.id, f"{secrets.token_hex(4)}@acme.example", "Ulf", Role.MEMBER)


@pytest.fixture
def issued(database, member):
    async def issue():
        code = AuthorizationCode(
            tenant_id=member.tenant_id,
            membership_id=member.id,
            client_id="client",
            client_name="Client",
            redirect_uri="https://client.example/",
            redirect_host="client.example",
            challenge=challenge_of(VERIFIER),
            scopes=["tools:read", "probe"],
            resource="https://here.example/mcp",
        )
        return await issue_code(database, code)

    return issue


def shown(code, **changed):
    given = {
        "client_id": "client",
        "verifier": VERIFIER,
        "redirect_uri": "https://client.example/",
        "is_for": lambda resource: resource == "https://here.example/mcp",
    }
    return Redemption(code=code, **{**given, **changed})


async def grants_of(database, member):
    async with database.system() as session:
        of_member = sa.select(ClientGrant.__table__).where(col(ClientGrant.membership_id) == member.id)
        return (await session.exec(of_member)).all()


def test_the_challenge_is_that_of_the_rfc():
    assert challenge_of("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk") == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


async def test_a_code_gives_a_grant_once(database, refresh_tokens, member, issued):
    code = await issued()
    granted, token = await redeem_code(database, refresh_tokens, shown(code))
    assert (granted.user_id, granted.scopes) == (member.user_id, ("tools:read", "probe"))
    assert refresh_tokens.grant_id_of(token) == granted.id
    with pytest.raises(Refused) as refusal:
        await redeem_code(database, refresh_tokens, shown(code))
    assert refusal.value.ended == member.tenant_id
    [grant] = await grants_of(database, member)
    assert grant.revoked_because == "its code was used twice"


WRONG = [
    ({"client_id": "another"}, Refused),
    ({"verifier": "w" * 43}, Refused),
    ({"verifier": challenge_of(VERIFIER)}, Refused),
    ({"redirect_uri": "https://client.example/other"}, Refused),
    ({"redirect_uri": ""}, Refused),
    ({"is_for": lambda resource: False}, WrongResource),
]


@pytest.mark.parametrize(("changed", "refusal"), WRONG)
async def test_what_does_not_fit_gives_nothing(database, refresh_tokens, member, issued, changed, refusal):
    code = await issued()
    with pytest.raises(refusal):
        await redeem_code(database, refresh_tokens, shown(code, **changed))
    assert await grants_of(database, member) == []


async def test_a_redirect_may_be_left_out(database, refresh_tokens, issued):
    await redeem_code(database, refresh_tokens, shown(await issued(), redirect_uri=None))


async def test_a_code_of_another_client_that_was_used_ends_nothing(database, refresh_tokens, member, issued):
    code = await issued()
    await redeem_code(database, refresh_tokens, shown(code))
    with pytest.raises(Refused) as refusal:
        await redeem_code(database, refresh_tokens, shown(code, client_id="another"))
    assert refusal.value.ended is None
    [grant] = await grants_of(database, member)
    assert grant.revoked_at is None


async def test_a_code_is_good_for_ten_minutes(database, refresh_tokens, issued, monkeypatch):
    soon, late = await issued(), await issued()
    assert timedelta(minutes=10) == GOOD_FOR
    monkeypatch.setattr(codes, "utc_now", lambda: utc_now() + GOOD_FOR - timedelta(seconds=5))
    await redeem_code(database, refresh_tokens, shown(soon))
    monkeypatch.setattr(codes, "utc_now", lambda: utc_now() + GOOD_FOR)
    with pytest.raises(Refused, match="expired"):
        await redeem_code(database, refresh_tokens, shown(late))


async def test_only_a_hash_of_a_code_is_stored(database, issued):
    code = await issued()
    async with database.system() as session:
        one = sa.select(AuthorizationCode.__table__).where(col(AuthorizationCode.digest) == digest(code))
        assert code not in repr((await session.exec(one)).one())


async def test_of_those_who_redeem_at_once_one_gets_a_grant_and_it_is_ended(database, refresh_tokens, member, issued):
    code = await issued()
    got, refused = [], []

    async def redeem():
        try:
            got.append(await redeem_code(database, refresh_tokens, shown(code)))
        except Refused:
            refused.append(code)

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(redeem)
    assert (len(got), len(refused)) == (1, 4)
    [grant] = await grants_of(database, member)
    assert grant.revoked_at is not None


async def test_what_is_long_over_is_purged(database, refresh_tokens, member, issued, monkeypatch):
    old = await issued()
    await redeem_code(database, refresh_tokens, shown(old))
    with pytest.raises(Refused):
        await redeem_code(database, refresh_tokens, shown(old))
    later = utc_now() + KEPT_FOR + timedelta(days=2)
    monkeypatch.setattr(codes, "utc_now", lambda: later)
    new = await issued()
    purged = await codes.purge_codes(database, later)
    assert min(purged.codes, purged.grants) >= 1
    assert await codes.purge_codes(database, later) == codes.Purged(0, 0)
    async with database.system() as session:
        both = col(AuthorizationCode.digest).in_([digest(old), digest(new)])
        left = (await session.exec(sa.select(AuthorizationCode.digest).where(both))).scalars().all()
    assert left == [digest(new)]
    assert await grants_of(database, member) == []
