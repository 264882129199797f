"""Memberships: who belongs to a tenant, and that it is never left without an owner."""

from __future__ import annotations

import anyio
import pytest

from mercato.tenancy.errors import InvalidValue, NotFound
from mercato.tenancy.memberships import Role, add_member, find_member, list_members
from mercato.tenancy.removal import remove_member


async def test_a_person_may_be_a_member_of_two_tenants_with_a_role_in_each(database, tenant, other_tenant):
    await add_member(database, tenant.id, "Grace@Example.com", "Grace", Role.ADMIN)
    await add_member(database, other_tenant.id, "grace@example.com ", "Grace", Role.VIEWER)
    here, there = [
        {member["email"]: member["role"] for member in await list_members(database, one.id)}
        for one in (tenant, other_tenant)
    ]
    assert here["grace@example.com"] == "admin"
    assert there["grace@example.com"] == "viewer"
    assert len(here) == len(there) == 2


async def test_who_was_removed_is_no_member_until_added_again(database, tenant):
    member = await add_member(database, tenant.id, "grace@example.com", "Grace", Role.MEMBER)
    async with database.tenant(tenant.id) as db:
        await remove_member(db, member.id)
    with pytest.raises(NotFound, match="no member"):
        await find_member(database, tenant, "grace@example.com")
    await add_member(database, tenant.id, "grace@example.com", "Grace", Role.MANAGER)
    assert (await find_member(database, tenant, "grace@example.com")).role == "manager"


async def test_the_last_owner_can_neither_go_nor_become_something_else(database, tenant):
    email = f"ada@{tenant.slug}.example"
    owner = await find_member(database, tenant, email)
    with pytest.raises(InvalidValue, match="last owner"):
        async with database.tenant(tenant.id) as db:
            await remove_member(db, owner.id)
    with pytest.raises(InvalidValue, match="last owner"):
        await add_member(database, tenant.id, email, "Ada", Role.VIEWER)
    assert (await find_member(database, tenant, email)).role == "owner"


async def test_of_two_owners_who_go_at_once_one_stays(database, tenant):
    first = await find_member(database, tenant, f"ada@{tenant.slug}.example")
    second = await add_member(database, tenant.id, "grace@example.com", "Grace", Role.OWNER)
    refused = []

    async def go(membership_id: int) -> None:
        try:
            async with database.tenant(tenant.id) as db:
                await remove_member(db, membership_id)
        except InvalidValue:
            refused.append(membership_id)

    async with anyio.create_task_group() as group:
        group.start_soon(go, first.id)
        group.start_soon(go, second.id)
    assert len(refused) == 1
    assert [member["role"] for member in await list_members(database, tenant.id)] == ["owner"]


@pytest.mark.parametrize("email", ["", "grace", "grace@", "@example.com", "grace@example", "g r@example.com"])
async def test_what_is_no_address_is_refused(database, tenant, email):
    with pytest.raises(InvalidValue, match="no e-mail address"):
        await add_member(database, tenant.id, email, "Grace", Role.MEMBER)
