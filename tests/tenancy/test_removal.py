"""A member leaves, and everything that acted for them ends; coming back brings none of it back."""

from __future__ import annotations

import pytest
from sqlmodel import select

from mercato.tenancy.client_grants import ClientGrant, authenticate_grant, list_grants
from mercato.tenancy.errors import InvalidValue, NotFound
from mercato.tenancy.invitations import PURPOSE, accept_invitation, find_invitation, invite
from mercato.tenancy.keys import authenticate_key, create_key
from mercato.tenancy.memberships import Role, add_member, find_member
from mercato.tenancy.onboarding import find_owner
from mercato.tenancy.removal import remove_member
from mercato.tenancy.rows import utc_now
from mercato.tenancy.signing import Signer

EMAIL = "bob@removal.example"


@pytest.fixture
async def member(database, tenant):
    return await add_member(database, tenant.id, EMAIL, "Bob", Role.ADMIN)


async def granted(database, tenant, member):
    """A connected client of the member's."""
    grant = ClientGrant(
        tenant_id=tenant.id,
        membership_id=member.id,
        client_id="probe",
        client_name="Probe",
        redirect_host="client.example",
        scopes=["tools:read"],
        resource="http://127.0.0.1/mcp",
        refresh_digest=b"x",
        expires_at=utc_now().replace(year=2100),
    )
    async with database.system() as session:
        session.add(grant)
        await session.flush()
    return grant.id


async def speaks(database, grant_id):
    return await authenticate_grant(database, grant_id, frozenset({"tools:read"}), utc_now())


async def test_keys_and_connected_clients_end_with_the_membership_and_stay_so(database, tenant, member):
    async with database.tenant(tenant.id) as db:
        _, key = await create_key(db, member, "key", ["*"], None)
    grant_id = await granted(database, tenant, member)
    assert await authenticate_key(database, key) is not None
    assert await speaks(database, grant_id) is not None
    async with database.tenant(tenant.id) as db:
        await remove_member(db, member.id)
    await add_member(database, tenant.id, EMAIL, "Bob", Role.VIEWER)
    assert await authenticate_key(database, key) is None
    assert await speaks(database, grant_id) is None
    async with database.tenant(tenant.id, read_only=True) as db:
        assert await list_grants(db) == []


async def test_those_of_others_stay(database, tenant, member):
    owner = await find_owner(database, tenant)
    async with database.tenant(tenant.id) as db:
        _, key = await create_key(db, owner, "key", ["*"], None)
    grant_id = await granted(database, tenant, owner)
    async with database.tenant(tenant.id) as db:
        await remove_member(db, member.id)
    assert await authenticate_key(database, key) is not None
    assert await speaks(database, grant_id) is not None


async def test_an_open_invitation_does_not_let_in_again_who_was_removed(database, tenant, runtime, member):
    signer = Signer(runtime.ring, PURPOSE)
    async with database.tenant(tenant.id) as db:
        _, token = await invite(db, signer, EMAIL, Role.OWNER, invited_by_user_id=None)
    seen_before = await find_invitation(database, signer, token)
    async with database.tenant(tenant.id) as db:
        await remove_member(db, member.id)
    with pytest.raises(NotFound):
        await find_invitation(database, signer, token)
    with pytest.raises(NotFound):
        await accept_invitation(database, seen_before, member.user_id)
    with pytest.raises(NotFound):
        await find_member(database, tenant, EMAIL)


async def test_an_invitation_from_before_a_role_was_taken_does_not_give_it_back(database, tenant, runtime, member):
    signer = Signer(runtime.ring, PURPOSE)
    async with database.tenant(tenant.id) as db:
        _, token = await invite(db, signer, EMAIL, Role.ADMIN, invited_by_user_id=None)
    seen_before = await find_invitation(database, signer, token)
    await add_member(database, tenant.id, EMAIL, "Bob", Role.VIEWER)
    with pytest.raises(NotFound):
        await accept_invitation(database, seen_before, member.user_id)
    assert (await find_member(database, tenant, EMAIL)).role == Role.VIEWER


async def test_the_last_owner_stays_with_everything_of_theirs(database, tenant):
    owner = await find_owner(database, tenant)
    async with database.tenant(tenant.id) as db:
        _, key = await create_key(db, owner, "key", ["*"], None)
    with pytest.raises(InvalidValue):
        async with database.tenant(tenant.id) as db:
            await remove_member(db, owner.id)
    assert await authenticate_key(database, key) is not None
    async with database.tenant(tenant.id) as db:
        assert (await db.session.exec(select(ClientGrant))).all() == []
