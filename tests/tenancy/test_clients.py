from __future__ import annotations

import secrets
from datetime import timedelta

import pytest
import sqlalchemy as sa
from sqlmodel import col

from mercato.tenancy import clients
from mercato.tenancy.clients import (
    UNUSED_FOR,
    ClientKind,
    OAuthClient,
    add_client,
    find_client,
    list_clients,
    remove_client,
    save_document,
)
from mercato.tenancy.errors import AlreadyExists, NotFound
from mercato.tenancy.rows import utc_now


def new(kind=ClientKind.REGISTERED, **given):
    name = secrets.token_hex(6)
    client_id = f"https://{name}.example/a" if kind is ClientKind.DOCUMENT else f"test-{name}"
    values = {"client_id": client_id, "kind": kind, "name": "A client", "redirect_uris": [], "auth_method": "none"}
    return OAuthClient(**{**values, **given})


@pytest.fixture(autouse=True)
def every_time(monkeypatch):
    """Clean up at each addition, and not now and then."""
    monkeypatch.setattr(clients, "REAPED_EVERY", 1)


async def test_a_client_is_stored_once(database):
    client = new()
    await add_client(database, client)
    assert (await find_client(database, client.client_id)).name == "A client"
    with pytest.raises(AlreadyExists):
        await add_client(database, new(client_id=client.client_id))
    assert await find_client(database, "nobody") is None


async def test_what_a_document_says_takes_the_place_of_what_it_said_before(database):
    client = new(ClientKind.DOCUMENT, jwks={"keys": []}, etag='"1"')
    await save_document(database, client)
    again = new(ClientKind.DOCUMENT, client_id=client.client_id, name="Renamed", introspects=True)
    saved = await save_document(database, again)
    assert (saved.name, saved.jwks, saved.etag, saved.introspects) == ("Renamed", None, None, False)
    found = [one for one in await list_clients(database) if one.client_id == client.client_id]
    assert len(found) == 1


async def test_a_document_does_not_take_the_place_of_a_client_of_another_kind(database):
    static = new(ClientKind.STATIC, client_id=f"https://{secrets.token_hex(6)}.example/a", name="Ours")
    await add_client(database, static)
    saved = await save_document(database, new(ClientKind.DOCUMENT, client_id=static.client_id, name="Theirs"))
    assert (saved.name, saved.kind) == ("Ours", ClientKind.STATIC)


async def test_the_newest_of_those_that_nobody_uses_are_kept_and_static_ones_always(database, monkeypatch):
    static = await add_client(database, new(ClientKind.STATIC))
    monkeypatch.setattr(clients, "MOST_UNUSED", 3)
    names = []
    for store, kind in [(save_document, ClientKind.DOCUMENT), (add_client, ClientKind.REGISTERED)] * 3:
        names.append((await store(database, new(kind))).client_id)
    left = [name for name in names if await find_client(database, name) is not None]
    assert left == names[-3:]
    assert await find_client(database, static.client_id) is not None


async def test_one_that_nobody_used_within_a_day_goes_when_the_next_one_comes(database):
    old, young = new(), new()
    for client in (old, young):
        await add_client(database, client)
    async with database.system() as session:
        one = sa.update(OAuthClient).where(col(OAuthClient.client_id) == old.client_id)
        await session.exec(one.values(created_at=utc_now() - UNUSED_FOR - timedelta(seconds=1)))
    await add_client(database, new())
    assert await find_client(database, old.client_id) is None
    assert await find_client(database, young.client_id) is not None


async def test_a_client_is_removed_once(database):
    client = await add_client(database, new(ClientKind.STATIC))
    assert await remove_client(database, client.client_id) == []
    assert await find_client(database, client.client_id) is None
    with pytest.raises(NotFound):
        await remove_client(database, client.client_id)


async def test_the_database_itself_refuses_a_kind_that_does_not_exist(database):
    with pytest.raises(sa.exc.IntegrityError, match="ck_oauth_clients_kind"):
        await add_client(database, new(kind="nonsense"))
