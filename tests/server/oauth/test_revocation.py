"""The end of access: by the client, by a person, with a membership, a tenant or a key; at the next call, everywhere."""

from __future__ import annotations

import secrets
from datetime import timedelta

import httpx
import pytest
import sqlalchemy as sa
from sqlmodel import col, select

from mercato.server.changes import Change
from mercato.tenancy.client_grants import revoke_grant
from mercato.tenancy.clients import ClientKind, add_client, remove_client
from mercato.tenancy.clients import OAuthClient as Row
from mercato.tenancy.keys import ApiKey
from mercato.tenancy.memberships import Membership, Role, add_member
from mercato.tenancy.removal import remove_member
from mercato.tenancy.rows import utc_now
from mercato.tenancy.signing import digest
from mercato.tenancy.tenants import TenantRecord
from tests.server.conftest import modern
from tests.server.oauth.conftest import listened, owner_in, settle
from tests.server.oauth.flow import OAuthClient, assert_refused, called, connect, public_client


@pytest.fixture
async def acme(site):
    return await settle(site)


@pytest.fixture
async def ada(site, acme):
    async with owner_in(site, acme) as browser:
        yield browser


@pytest.fixture
async def client(site):
    return await public_client(site.url)


@pytest.fixture
async def tokens(acme, ada, client):
    return await connect(ada, client, category=["probe"])


async def resource_server(site, *, introspects=True):
    """Make a client of the operator's that may introspect, or may not."""
    client_id, secret = f"static-{secrets.token_hex(4)}", secrets.token_hex(8)
    row = Row(
        client_id=client_id,
        kind=ClientKind.STATIC,
        name="Ours",
        redirect_uris=[],
        auth_method="client_secret_basic",
        secret_digest=digest(secret),
        introspects=introspects,
    )
    await add_client(site.runtime.database, row)
    return OAuthClient(site.url, client_id, "", extra={"client_secret": secret})


async def asked(client, path, **given):
    """Call an endpoint that takes a token."""
    form = {"client_id": client.client_id, **client.extra, **given}
    sent = {name: value for name, value in form.items() if value is not None}
    async with httpx.AsyncClient(base_url=client.site_url, verify=False) as http:
        return await http.post(path, data=sent, headers={"accept": "text/html"})


async def assert_works(client, tokens, *processes):
    for site in processes:
        assert (await called(site, tokens["access_token"])).status_code == 200


async def assert_over(client, tokens, *processes):
    for site in processes:
        response = await called(site, tokens["access_token"])
        assert response.status_code == 401
        assert 'error="invalid_token"' in response.headers["www-authenticate"]
    assert_refused(await client.refresh(tokens["refresh_token"]), "invalid_grant")


@pytest.mark.parametrize("which", ["access_token", "refresh_token"])
@pytest.mark.parametrize("hint", [None, "access_token", "refresh_token", "something_else"])
async def test_a_client_gives_back_what_it_was_allowed_by_either_token(site, client, tokens, which, hint):
    await assert_works(client, tokens, site)
    response = await asked(client, "/revoke", token=tokens[which], token_type_hint=hint)
    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["cache-control"] == "no-store"
    await assert_over(client, tokens, site)
    assert (await asked(client, "/revoke", token=tokens[which])).status_code == 200


async def test_a_token_of_another_client_is_not_ended_and_the_answer_is_the_same(site, client, tokens):
    thief = await public_client(site.url)
    unknown = await asked(thief, "/revoke", token="unknown")
    for token in (tokens["access_token"], tokens["refresh_token"]):
        response = await asked(thief, "/revoke", token=token)
        assert (response.status_code, response.content) == (unknown.status_code, unknown.content) == (200, b"")
    await assert_works(client, tokens, site)


async def test_a_key_is_not_given_back_by_a_client(site, acme, client):
    key = await site.key(acme)
    assert (await asked(client, "/revoke", token=key)).status_code == 200
    assert (await called(site, key)).status_code == 200


@pytest.mark.parametrize("path", ["/revoke", "/introspect"])
async def test_who_does_not_authenticate_or_names_no_token_is_refused(site, client, tokens, path):
    stranger = OAuthClient(site.url, "mcc_unknown", "")
    ours = await resource_server(site)
    wrong = OAuthClient(site.url, ours.client_id, "", extra={"client_secret": "wrong"})
    for refused in (stranger, wrong):
        assert_refused(await asked(refused, path, token=tokens["access_token"]), "invalid_client", 401)
    assert_refused(await asked(client, path, client_id=None, token=tokens["access_token"]), "invalid_request")
    assert_refused(await asked(ours, path), "invalid_request")


async def test_only_a_client_made_for_it_introspects(site, client, tokens):
    for other in (client, await resource_server(site, introspects=False)):
        assert_refused(await asked(other, "/introspect", token=tokens["access_token"]), "invalid_client", 401)


async def test_introspection_says_what_a_token_is_good_for_until_it_is_not(site, acme, client, tokens):
    ours = await resource_server(site)
    response = await asked(ours, "/introspect", token=tokens["access_token"])
    said = response.json()
    assert response.headers["cache-control"] == "no-store"
    assert said["active"] is True
    assert (said["iss"], said["aud"], said["client_id"]) == (site.url, f"{site.url}/mcp", client.client_id)
    assert (said["tenant"], said["scope"], said["token_type"]) == (str(acme.id), "probe tools:read", "Bearer")
    assert said["exp"] - said["iat"] == 3600
    await asked(client, "/revoke", token=tokens["refresh_token"])
    assert (await asked(ours, "/introspect", token=tokens["access_token"])).json() == {"active": False}


async def test_introspection_tells_nothing_of_what_is_no_access_token(site, acme, tokens):
    ours = await resource_server(site)
    others = (tokens["refresh_token"], tokens["access_token"][:-4] + "AAAA", await site.key(acme), "x", "a.b.c", "ä")
    for token in others:
        assert (await asked(ours, "/introspect", token=token)).json() == {"active": False}


async def test_what_a_person_ends_on_one_replica_is_over_on_every_other_at_the_next_call(
    site, replica, acme, client, tokens
):
    await assert_works(client, tokens, site, replica)
    grant_id = replica.runtime.oauth.refresh_tokens.grant_id_of(tokens["refresh_token"])
    async with listened(site) as heard:
        async with replica.runtime.database.tenant(acme.id) as db:
            await revoke_grant(db, grant_id)
        await replica.runtime.changes.publish(Change("access", acme.id))
        await heard()
    await assert_over(client, tokens, site, replica)


async def test_what_a_client_gives_back_to_one_replica_is_over_on_every_other(site, replica, client, tokens):
    await assert_works(client, tokens, site, replica)
    elsewhere = OAuthClient(replica.url, client.client_id, "")
    async with listened(site) as heard:
        await asked(elsewhere, "/revoke", token=tokens["access_token"])
        await heard()
    await assert_over(client, tokens, site, replica)


async def test_where_no_change_arrives_access_ends_within_half_a_minute(site, acme, client, tokens, monkeypatch):
    await assert_works(client, tokens, site)
    grant_id = site.runtime.oauth.refresh_tokens.grant_id_of(tokens["refresh_token"])
    async with site.runtime.database.tenant(acme.id) as db:
        await revoke_grant(db, grant_id)
    directory = site.runtime.directory
    for kept in (directory._principals, directory._callers):
        for key, (until, known) in list(kept._entries.items()):
            kept._entries[key] = (until - 30, known)
    await assert_over(client, tokens, site)


async def test_access_ends_with_the_membership_of_the_one_who_allowed_it(site, replica, acme, client, tokens):
    key = await site.key(acme)
    await add_member(site.runtime.database, acme.id, "second@acme.example", "Second", Role.OWNER)
    await assert_works(client, tokens, site, replica)
    assert (await called(replica, key)).status_code == 200
    async with listened(replica) as heard:
        async with site.runtime.database.tenant(acme.id) as db:
            first = (await db.session.exec(select(Membership).order_by(col(Membership.id)))).first()
            await remove_member(db, first.id)
        await site.runtime.changes.publish(Change("access", acme.id))
        await heard()
    await assert_over(client, tokens, site, replica)
    for process in (site, replica):
        assert (await called(process, key)).status_code == 401


async def test_access_ends_with_the_tenant(site, replica, acme, client, tokens):
    key = await site.key(acme)
    await assert_works(client, tokens, site, replica)
    assert (await called(replica, key)).status_code == 200
    async with listened(replica) as heard:
        async with site.runtime.database.system() as session:
            (await session.get(TenantRecord, acme.id)).removed_at = utc_now()
        await site.runtime.changes.publish(Change("access", acme.id))
        await heard()
    await assert_over(client, tokens, site, replica)
    for process in (site, replica):
        assert (await called(process, key)).status_code == 401


async def test_access_ends_with_the_client_that_the_operator_removes(site, acme, client, tokens):
    await assert_works(client, tokens, site)
    assert await remove_client(site.runtime.database, client.client_id) == [acme.id]
    await site.runtime.changes.publish(Change("access", acme.id))
    assert (await called(site, tokens["access_token"])).status_code == 401
    assert_refused(await client.refresh(tokens["refresh_token"]), "invalid_client", 401)


async def test_a_key_that_has_expired_is_401(site, acme):
    key = await site.key(acme, expires_at=utc_now() + timedelta(hours=1))
    assert (await called(site, key)).status_code == 200
    late = sa.update(ApiKey).where(col(ApiKey.shown) == key[:10]).values(expires_at=utc_now() - timedelta(seconds=1))
    async with site.runtime.database.system() as session:
        await session.exec(late)
    await site.runtime.changes.publish(Change("access", acme.id))
    response = await called(site, key)
    assert response.status_code == 401
    assert "resource_metadata=" in response.headers["www-authenticate"]


async def test_a_role_that_shrinks_cuts_what_a_token_may_do_at_the_next_call(site, acme, ada, client):
    await add_member(site.runtime.database, acme.id, "second@acme.example", "Second", Role.OWNER)
    tokens = await connect(ada, client, category=["probe"], write="yes")
    async with site.client(tokens["access_token"]) as http:
        before = {tool["name"] for tool in (await modern(http, "tools/list")).json()["result"]["tools"]}
        email = f"ada@{acme.slug}.example"
        await add_member(site.runtime.database, acme.id, email, "Ada", Role.VIEWER)
        await site.runtime.changes.publish(Change("access", acme.id))
        after = {tool["name"] for tool in (await modern(http, "tools/list")).json()["result"]["tools"]}
    assert before - after == {"administer", "change", "wipe"}


async def test_a_scope_that_is_missing_is_a_403_that_says_what_to_ask_for(site, client, tokens):
    async with site.client(tokens["access_token"]) as http:
        response = await modern(http, "tools/call", {"name": "change", "arguments": {}})
        unknown = await modern(http, "tools/call", {"name": "no_such_tool", "arguments": {}})
    assert response.status_code == 403
    challenge = response.headers["www-authenticate"]
    assert challenge == (
        'Bearer realm="mercato", error="insufficient_scope", scope="probe tools:read tools:write", '
        f'resource_metadata="{site.url}/.well-known/oauth-protected-resource/mcp"'
    )
    assert response.json()["error"]["data"] == {"code": "insufficient_scope", "scope": "tools:write"}
    assert unknown.status_code != 403
    assert "www-authenticate" not in unknown.headers


async def test_a_category_that_was_not_ticked_is_a_403_that_names_it(site, client, tokens):
    tool = next(tool for tool in site.runtime.catalog.categories["system"].tools if tool.read_only and not tool.admin)
    async with site.client(tokens["access_token"]) as http:
        response = await modern(http, "tools/call", {"name": tool.name, "arguments": {}})
    assert response.status_code == 403
    assert 'scope="probe system tools:read"' in response.headers["www-authenticate"]


async def test_what_was_asked_for_once_more_and_allowed_can_be_called(site, ada, client, tokens):
    wider = await connect(ada, client, scope="tools:read tools:write probe", category=["probe"], write="yes")
    async with site.client(wider["access_token"]) as http:
        response = await modern(http, "tools/call", {"name": "change", "arguments": {}})
    assert response.status_code == 200
    assert (await called(site, tokens["access_token"])).status_code == 200
