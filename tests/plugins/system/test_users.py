from __future__ import annotations

import pytest
from sqlmodel import select

from mercato.tenancy.memberships import Membership, Role, add_member
from mercato.tenancy.rows import utc_now


@pytest.fixture
async def members(database, tenant):
    """Four more members of `tenant`."""
    people = [
        ("Grace Hopper", Role.ADMIN),
        ("Alan Turing", Role.MEMBER),
        ("100% Cotton", Role.VIEWER),
        ("snake_case", Role.MEMBER),
    ]
    return {
        name: (await add_member(database, tenant.id, f"{index}@{tenant.slug}.example", name, role)).user_id
        for index, (name, role) in enumerate(people)
    }


async def _names(mcp, **arguments):
    found = (await mcp.call_tool("list_users", arguments)).structured_content
    assert found["total_count"] == len(found["users"])
    return [user["name"] for user in found["users"]]


async def test_members_are_listed_with_role_and_status(mcp, members, tenant):
    found = (await mcp.call_tool("list_users", {})).structured_content
    assert found["total_count"] == 5
    assert found["next_cursor"] is None
    by_name = {user["name"]: user for user in found["users"]}
    assert set(by_name) == {"ada", *members}
    assert by_name["Grace Hopper"]["role"] == "admin"
    assert by_name["Grace Hopper"]["id"] == members["Grace Hopper"]
    assert by_name["Grace Hopper"]["status"] == "active"
    assert by_name["Grace Hopper"]["joined_at"].endswith("Z")
    assert by_name["ada"]["email"] == f"ada@{tenant.slug}.example"


async def test_role_and_search_combine(mcp, members):
    assert await _names(mcp, role="member") == ["Alan Turing", "snake_case"]
    assert await _names(mcp, search="aLaN") == ["Alan Turing"]
    assert await _names(mcp, search="0@") == ["Grace Hopper"]
    assert await _names(mcp, search="an", role="viewer") == []


async def test_search_takes_percent_and_underscore_as_they_are(mcp, members):
    assert await _names(mcp, search="%") == ["100% Cotton"]
    assert await _names(mcp, search="_") == ["snake_case"]
    assert await _names(mcp, search="/") == []


async def test_pages_show_everybody_once_and_count_them_all(mcp, members):
    seen, cursor = [], None
    while True:
        arguments = {"limit": 2, **({"cursor": cursor} if cursor else {})}
        page = (await mcp.call_tool("list_users", arguments)).structured_content
        assert page["total_count"] == 5
        assert len(page["users"]) <= 2
        seen += [user["name"] for user in page["users"]]
        if (cursor := page["next_cursor"]) is None:
            break
    assert seen == ["ada", *members]


async def test_a_cursor_that_was_made_up_is_refused(mcp):
    result = await mcp.call_tool("list_users", {"cursor": "WyJvcmRlcnMiLDVd"})
    assert result.is_error
    assert "`cursor`" in result.content[0].text
    assert result.meta["mercato/error"]["field"] == "cursor"


async def test_a_user_is_found_by_id(mcp, members):
    user = (await mcp.call_tool("get_user", {"user_id": members["Alan Turing"]})).structured_content
    assert (user["name"], user["role"], user["last_login_at"]) == ("Alan Turing", "member", None)


async def test_who_has_left_is_not_listed_and_still_found(mcp, members, database, tenant):
    left = members["Alan Turing"]
    async with database.tenant(tenant.id) as db:
        membership = (await db.session.exec(select(Membership).where(Membership.user_id == left))).one()
        membership.removed_at = utc_now()
    assert "Alan Turing" not in await _names(mcp)
    assert (await mcp.call_tool("get_user", {"user_id": left})).structured_content["status"] == "removed"


async def test_nobody_of_another_tenant_is_listed_or_found(mcp, other_mcp, members, other_tenant):
    assert await _names(other_mcp) == ["ada"]
    assert await _names(other_mcp, search="Grace") == []
    result = await other_mcp.call_tool("get_user", {"user_id": members["Grace Hopper"]})
    assert result.is_error
    assert result.meta["mercato/error"]["field"] == "user_id"
    unknown = await other_mcp.call_tool("get_user", {"user_id": 2**53 - 1})
    assert unknown.content[0].text.replace(str(2**53 - 1), "N") == result.content[0].text.replace(
        str(members["Grace Hopper"]), "N"
    )


@pytest.mark.parametrize("user_id", [0, -1, 2**63, 10**30])
async def test_an_id_that_cannot_be_one_is_refused(mcp, user_id):
    result = await mcp.call_tool("get_user", {"user_id": user_id})
    assert result.meta["mercato/error"]["code"] == "invalid_arguments"


async def test_a_member_of_two_tenants_has_a_role_in_each(mcp, other_mcp, database, tenant, other_tenant):
    for whose, role in ((tenant, Role.ADMIN), (other_tenant, Role.VIEWER)):
        both = await add_member(database, whose.id, f"both@{tenant.slug}.example", "Both", role)
    roles = [
        (await client.call_tool("get_user", {"user_id": both.user_id})).structured_content["role"]
        for client in (mcp, other_mcp)
    ]
    assert roles == ["admin", "viewer"]


async def test_everybody_may_see_who_the_members_are(client_as):
    async with client_as(Role.VIEWER) as viewer:
        assert await _names(viewer) == ["ada", "Viewer"]
