"""When the database is away: true words, the right status, and everything back by itself."""

from __future__ import annotations

import httpx
import pytest
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from mercato.tenancy.database import is_outage
from mercato.tenancy.reads import Elsewhere
from mercato.tenancy.tenants import Tenant
from tests.server.conftest import Site, modern


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> None:
    """No connection to the database can be made."""

    async def refuse(*_: object, **__: object) -> None:
        raise ConnectionRefusedError("the socket /secret/place is not there")

    async def elsewhere(*_: object) -> None:
        raise Elsewhere

    monkeypatch.setattr("sqlalchemy.ext.asyncio.AsyncEngine.connect", lambda *_, **__: _Refused())
    monkeypatch.setattr("mercato.tenancy.reads._Pool.find", lambda *_: None)
    monkeypatch.setattr("mercato.tenancy.reads._Pool.take", elsewhere)
    monkeypatch.setattr("mercato.server.auth.directory.authenticate_key", refuse)


class _Refused:
    async def __aenter__(self) -> None:
        raise ConnectionRefusedError("the socket /secret/place is not there")

    async def __aexit__(self, *_: object) -> None:
        return None


async def test_a_key_that_cannot_be_looked_up_is_503_and_not_401(site: Site, acme: Tenant, away: None):
    async with site.client("mck_not_in_any_cache") as client:
        response = await modern(client, "tools/list")
    assert response.status_code == 503
    assert response.headers["retry-after"] == "2"
    assert "/secret/place" not in response.text


async def test_a_read_says_that_the_database_does_not_answer(site: Site, acme: Tenant, request: pytest.FixtureRequest):
    async with site.client(await site.key(acme)) as client:
        await modern(client, "tools/list")  # who is calling is known from now on
        request.getfixturevalue("away")
        answer = (await modern(client, "tools/call", {"name": "list_orders", "arguments": {}})).json()["result"]
    assert answer["content"][0]["text"] == "The database does not answer at the moment. Try again in some seconds."
    assert answer["_meta"]["mercato/error"] == {"code": "unavailable", "retryable": True}


async def test_what_nobody_foresaw_is_json_with_a_reference(site: Site, monkeypatch: pytest.MonkeyPatch):
    async def fail(*_: object) -> None:
        raise RuntimeError("hunter2")

    monkeypatch.setattr("mercato.server.app.probe", fail)
    async with httpx.AsyncClient(base_url=site.url) as client:
        response = await client.get("/readyz", headers={"x-request-id": "reference-1"})
    assert response.status_code == 500
    assert response.json()["error"]["message"] == "Internal error. Reference: reference-1."


def said(state: str) -> Exception:
    """What PostgreSQL answered, by its code."""
    error = Exception(state)
    error.sqlstate = state  # type: ignore[attr-defined]
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConnectionResetError(), True),
        (FileNotFoundError(), True),
        (PoolTimeout(), True),
        (DBAPIError("select", None, Exception(), connection_invalidated=True), True),
        (DBAPIError("select", None, Exception()), False),
        *((DBAPIError("select", None, said(state)), True) for state in ("57P03", "57P01", "53300", "08006", "55P03")),
        *((DBAPIError("select", None, said(state)), False) for state in ("23505", "42P01", "40001")),
        (TimeoutError(), False),
        (ValueError(), False),
    ],
)
def test_an_outage_is_told_from_a_fault(error: Exception, expected: bool):
    assert is_outage(error) is expected
