"""Client ID metadata documents: a client whose id is the address at which it describes itself (CIMD).

draft-ietf-oauth-client-id-metadata-document. What was read is kept as long as its own headers say, within bounds, and
longer where its source does not answer: nobody is locked out because a client's web server is down.
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import orjson

from mercato.server.oauth.errors import OAuthError, TryLater
from mercato.server.oauth.outside import Crowded, Document, Outside, Unreachable
from mercato.server.oauth.registration import client_of
from mercato.tenancy.clients import ClientKind, OAuthClient, save_document
from mercato.tenancy.database import Database
from mercato.tenancy.errors import InvalidValue
from mercato.tenancy.rows import utc_now

LONGEST_ID = 500
FRESH_AT_LEAST, FRESH_AT_MOST, FRESH_UNSAID = timedelta(minutes=5), timedelta(days=1), timedelta(hours=1)
FAILED_FOR = timedelta(seconds=30)
"""So long a source that failed is not asked again."""
_MOST_FAILURES = 1_000
_MAX_AGE = re.compile(r"\bmax-age=(\d{1,9})\b")


def is_document_id(client_id: str) -> bool:
    """Whether a client id is the address of a document: https, with a path, and spelled in one way only."""
    try:
        parts = urlsplit(client_id)
        parts.port  # noqa: B018  # raises for what is no number
    except ValueError:
        return False
    plain = client_id.isascii() and client_id.isprintable() and " " not in client_id and "\\" not in client_id
    dotted = any(part in {".", ".."} for part in parts.path.replace("%2e", ".").replace("%2E", ".").split("/"))
    return (
        plain
        and len(client_id) <= LONGEST_ID
        and client_id.startswith("https://")
        and bool(parts.hostname)
        and parts.path not in {"", "/"}
        and not dotted
        and "#" not in client_id
        and "@" not in parts.netloc
    )


class ClientDocuments:
    """Reads clients from their documents, and keeps them."""

    def __init__(self, database: Database, outside: Outside, schemes: Collection[str]) -> None:
        self._database = database
        self._outside = outside
        self._schemes = schemes
        self._failed: OrderedDict[str, datetime] = OrderedDict()
        self._reading: dict[str, asyncio.Task[OAuthClient | OAuthError]] = {}

    async def client(self, client_id: str, known: OAuthClient | None) -> OAuthClient:
        """Return the client that a document describes. Raises `OAuthError` where it cannot be read and never was."""
        now = utc_now()
        if known is not None and known.fresh_until is not None and known.fresh_until > now:
            return known
        if (until := self._failed.get(client_id)) is not None and until > now:
            if known is None:
                raise _refused(f"The document of {urlsplit(client_id).hostname} could not be read a moment ago.")
            return known
        reading = self._reading.get(client_id)
        if reading is None:
            reading = asyncio.create_task(self._read_anew(client_id, known))
            self._reading[client_id] = reading
            reading.add_done_callback(lambda _: self._reading.pop(client_id, None))
        elif known is not None:
            return known  # one is enough to read it anew
        found = await asyncio.shield(reading)  # whoever leaves does not end it for the others
        if isinstance(found, OAuthError):
            raise found.again()
        return found

    async def _read_anew(self, client_id: str, known: OAuthClient | None) -> OAuthClient | OAuthError:
        """Return what the document says now, or the refusal: nobody may be left to take in what this raises."""
        try:
            document = await self._outside.read(client_id, etag=known.etag if known else None)
            return await save_document(self._database, self._read(client_id, document, known))
        except Crowded as error:
            return known or TryLater("temporarily_unavailable", str(error))
        except (Unreachable, InvalidValue) as error:
            self._remember_failure(client_id, utc_now())
            return known or _refused(str(error))

    def _read(self, client_id: str, document: Document, known: OAuthClient | None) -> OAuthClient:
        if document.body is None and known is not None:
            client = known
        else:
            client = _described(client_id, document.body or b"", self._schemes)
        client.fresh_until = utc_now() + _fresh_for(document.headers)
        client.etag = document.headers.get("etag", "")[:200] or None
        return client

    def _remember_failure(self, client_id: str, now: datetime) -> None:
        self._failed[client_id] = now + FAILED_FOR
        self._failed.move_to_end(client_id)
        if len(self._failed) > _MOST_FAILURES:
            self._failed.popitem(last=False)


def _refused(reason: str) -> OAuthError:
    return OAuthError("invalid_client", f"The client's document cannot be used. {reason}")


def _described(client_id: str, body: bytes, schemes: Collection[str]) -> OAuthClient:
    """Return what a document says. Raises `InvalidValue`."""
    try:
        metadata: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise InvalidValue("It is not JSON.") from None
    if not isinstance(metadata, dict) or metadata.get("client_id") != client_id:
        raise InvalidValue("Its `client_id` is not its own address.")
    if metadata.get("token_endpoint_auth_method", "none") not in ("none", "private_key_jwt"):
        raise InvalidValue("A client that is described by a document has no secret to share.")
    if "client_secret" in metadata:
        raise InvalidValue("It holds a secret, which anybody can read.")
    if not isinstance(metadata.get("client_name"), str):
        raise InvalidValue("It has no `client_name`.")
    try:
        client = client_of({"token_endpoint_auth_method": "none", **metadata}, schemes)
    except OAuthError as error:
        raise InvalidValue(error.description) from None
    client.client_id, client.kind = client_id, ClientKind.DOCUMENT
    return client


def _fresh_for(headers: Mapping[str, str]) -> timedelta:
    control = headers.get("cache-control", "").lower()
    if "no-store" in control or "no-cache" in control:
        return FRESH_AT_LEAST
    if (found := _MAX_AGE.search(control)) is None:
        return FRESH_UNSAID
    return min(max(timedelta(seconds=int(found[1])), FRESH_AT_LEAST), FRESH_AT_MOST)
