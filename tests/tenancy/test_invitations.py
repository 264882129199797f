from __future__ import annotations

import struct
from datetime import timedelta

import anyio
import pytest
import sqlalchemy as sa
from sqlmodel import col

from mercato.tenancy.accounts import ensure_account
from mercato.tenancy.errors import InvalidValue, NotFound
from mercato.tenancy.invitations import (
    GOOD_FOR,
    PURPOSE,
    Invitation,
    accept_invitation,
    find_invitation,
    invite,
)
from mercato.tenancy.memberships import Role, list_members
from mercato.tenancy.rows import utc_now
from mercato.tenancy.signing import Signer


@pytest.fixture
def signer(runtime):
    return Signer(runtime.ring, PURPOSE)


@pytest.fixture
def invited(database, tenant, signer):
    async def make(email="new@acme.example", role=Role.MEMBER):
        async with database.tenant(tenant.id) as db:
            row, token = await invite(db, signer, email, role, invited_by_user_id=None)
        return row.id, token

    return make


async def account(database, email):
    async with database.system() as session:
        return (await ensure_account(session, email, "New")).id


async def test_an_invitation_is_good_for_seven_days_for_one_address(database, tenant, signer, invited):
    number, token = await invited(" New@ACME.example ")
    found = await find_invitation(database, signer, token)
    assert (found.id, found.tenant_id, found.email, found.role) == (number, tenant.id, "new@acme.example", Role.MEMBER)
    assert (found.user_id is None or not found.has_sign_in, found.invited_by) == (True, None)
    assert timedelta(days=7) == GOOD_FOR
    assert abs(found.expires_at - utc_now() - GOOD_FOR) < timedelta(minutes=1)


async def test_an_invitation_makes_one_membership_once(database, tenant, signer, invited):
    _, token = await invited("once@acme.example", Role.MANAGER)
    found = await find_invitation(database, signer, token)
    user_id = await account(database, "once@acme.example")
    await accept_invitation(database, found, user_id)
    members = {member["id"]: member["role"] for member in await list_members(database, tenant.id)}
    assert members[user_id] == "manager"
    with pytest.raises(NotFound):
        await find_invitation(database, signer, token)
    with pytest.raises(NotFound, match="just been used"):
        await accept_invitation(database, found, user_id)


async def test_of_those_who_accept_at_once_one_does(database, tenant, signer, invited):
    _, token = await invited("race@acme.example")
    found = await find_invitation(database, signer, token)
    people = [await account(database, f"race-{number}@acme.example") for number in range(4)]
    refused = []

    async def accept(user_id):
        try:
            await accept_invitation(database, found, user_id)
        except NotFound:
            refused.append(user_id)

    async with anyio.create_task_group() as group:
        for user_id in people:
            group.start_soon(accept, user_id)
    assert len(refused) == 3
    joined = {member["id"] for member in await list_members(database, tenant.id)}
    assert joined & set(people) == set(people) - set(refused)


@pytest.fixture
def later(monkeypatch):
    """Let time have passed."""

    def pass_time(by):
        monkeypatch.setattr("mercato.tenancy.invitations.utc_now", lambda: utc_now() + by)

    return pass_time


async def test_an_invitation_expires(database, signer, invited, later):
    _, token = await invited("late@acme.example")
    found = await find_invitation(database, signer, token)
    user_id = await account(database, "late@acme.example")
    later(GOOD_FOR - timedelta(minutes=1))
    await find_invitation(database, signer, token)
    later(GOOD_FOR + timedelta(seconds=1))
    with pytest.raises(NotFound):
        await find_invitation(database, signer, token)
    with pytest.raises(NotFound):
        await accept_invitation(database, found, user_id)


@pytest.mark.parametrize("how", ["accepted_at", "revoked_at"])
async def test_an_invitation_that_is_over_is_not_found_nor_accepted(database, tenant, signer, invited, how):
    number, token = await invited("over@acme.example")
    found = await find_invitation(database, signer, token)
    user_id = await account(database, "over@acme.example")
    async with database.tenant(tenant.id) as db:
        over = sa.update(Invitation).where(col(Invitation.id) == number)
        await db.session.exec(over.values({how: utc_now()}))
    with pytest.raises(NotFound):
        await find_invitation(database, signer, token)
    with pytest.raises(NotFound):
        await accept_invitation(database, found, user_id)


async def test_a_newer_one_ends_the_older_of_the_same_address_and_of_this_tenant_only(
    database, tenant, other_tenant, signer, invited
):
    _, older = await invited("twice@acme.example")
    async with database.tenant(other_tenant.id) as db:
        _, elsewhere = await invite(db, signer, "twice@acme.example", Role.VIEWER, invited_by_user_id=None)
    _, of_another = await invited("another@acme.example")
    _, newer = await invited("TWICE@acme.example", Role.VIEWER)
    with pytest.raises(NotFound):
        await find_invitation(database, signer, older)
    for token in (newer, elsewhere, of_another):
        await find_invitation(database, signer, token)


async def test_a_token_of_another_tenant_or_purpose_fits_nothing(
    database, tenant, other_tenant, runtime, signer, invited
):
    number, token = await invited()
    swapped = signer.sign(struct.pack(">qq", other_tenant.id, number))
    other_purpose = Signer(runtime.ring, "form").sign(struct.pack(">qq", tenant.id, number))
    for wrong in (swapped, other_purpose, token[:-1], "", "x", signer.sign(b""), signer.sign(b"x" * 17)):
        with pytest.raises(NotFound):
            await find_invitation(database, signer, wrong)
    with pytest.raises(NotFound):
        await find_invitation(database, signer, signer.sign(struct.pack(">qq", -1, -1)))


async def test_who_is_no_address_or_the_last_owner_is_not_invited_away(database, tenant, signer, invited):
    with pytest.raises(InvalidValue):
        await invited("no address")
    [owner] = await list_members(database, tenant.id)
    _, token = await invited(owner["email"], Role.VIEWER)
    found = await find_invitation(database, signer, token)
    with pytest.raises(InvalidValue, match="last owner"):
        await accept_invitation(database, found, owner["id"])
    assert (await find_invitation(database, signer, token)).id == found.id
