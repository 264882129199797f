"""Finding a client by its id: made by the operator, registered, or described by a document."""

from __future__ import annotations

from mercato.server.oauth.documents import ClientDocuments, is_document_id
from mercato.server.oauth.errors import OAuthError
from mercato.server.oauth.redirects import is_local
from mercato.tenancy.clients import ClientKind, OAuthClient, find_client
from mercato.tenancy.database import Database

_LONGEST_ID = 500


class Clients:
    """Looks clients up."""

    def __init__(self, database: Database, documents: ClientDocuments) -> None:
        self._database = database
        self._documents = documents

    async def find(self, client_id: str, *, new: bool = True) -> OAuthClient:
        """Return the client of this id. Raises `OAuthError` (invalid_client).

        Without `new` no document is read that was never read before: nobody can have allowed such a client anything.
        """
        if len(client_id) > _LONGEST_ID or "\0" in client_id:
            raise OAuthError("invalid_client", "The client_id is too long, or cannot be read.")
        known = await find_client(self._database, client_id)
        if is_document_id(client_id) and (new if known is None else known.kind == ClientKind.DOCUMENT):
            return await self._documents.client(client_id, known)
        if known is None:
            raise OAuthError("invalid_client", "This client is unknown here: it must register first.")
        return known


def how_known(client: OAuthClient) -> str:
    """Return how the server knows who a client is, for the person who decides."""
    if client.kind == ClientKind.STATIC:
        return "set up by the operator of this server"
    if client.kind == ClientKind.DOCUMENT:
        host = client.client_id.removeprefix("https://").partition("/")[0]
        return f"published by {host}"
    return "registered itself; nobody has checked its name"


def warning_for(client: OAuthClient, redirect_uri: str) -> str | None:
    """Return what a person should know before they allow anything: who can be sure of a name on their own computer?"""
    if client.kind != ClientKind.STATIC and is_local(redirect_uri):
        return (
            "The answer goes to a program on your computer, and any program there could use this name. "
            "Allow it only if you have just started it yourself."
        )
    return None
