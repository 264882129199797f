"""The record of a session: what its handshake settled, and what it has asked for since."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import mcp_types as mcp
from mcp_types.version import LATEST_HANDSHAKE_VERSION

from mercato.tenancy.principal import Principal

Transport = Literal["streamable", "sse"]
SUBSCRIBED = "uri:"
"""What the fields of subscriptions begin with: one each, so that two replicas do not overwrite each other's."""

_US = 1_000_000
_LEVELS = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")


@dataclass(slots=True)
class Session:
    """A session as this replica knows it. The version decides how it is spoken to, whatever a header says."""

    id: str
    tenant_id: int
    owner: str
    version: str
    transport: Transport
    client: mcp.InitializeRequestParams | None
    initialized: bool
    level: str | None
    uris: frozenset[str]
    touched_at: float
    read_at: float = field(default_factory=time.monotonic)

    @property
    def can_ask(self) -> bool:
        """Whether its client can put a question to its user."""
        return self.client is not None and self.client.capabilities.elicitation is not None

    @property
    def client_name(self) -> str | None:
        """What its client calls itself."""
        return None if self.client is None else self.client.client_info.name

    def belongs_to(self, principal: Principal) -> bool:
        """Whether it was opened with this credential. With any other it is unknown."""
        return self.tenant_id == principal.tenant_id and self.owner == owner_of(principal)

    def wants(self, level: object) -> bool:
        """Whether log messages of this level are to be sent."""
        if self.level is None or level not in _LEVELS:
            return True
        return _LEVELS.index(str(level)) >= _LEVELS.index(self.level)


def owner_of(principal: Principal) -> str:
    """Return what binds a session to whoever opened it: a key, or a person with the client that they signed in with.

    Not the grant: a client that needs a wider one, or a new one, asks its person again in the middle of a session.
    """
    if principal.kind == "token":
        return f"token:{principal.client_id}:{principal.user_id}"
    return f"{principal.kind}:{principal.credential_id}:{principal.user_id}"


def fields_of(session: Session) -> dict[str, str]:
    """Return what is kept of a session that begins."""
    return {
        "tenant": str(session.tenant_id),
        "owner": session.owner,
        "transport": session.transport,
        **handshake_fields(session.version, session.client),
    }


def handshake_fields(version: str, client: mcp.InitializeRequestParams | None) -> dict[str, str]:
    """Return what is kept of a handshake."""
    given = "" if client is None else client.model_dump_json(by_alias=True, exclude_none=True)
    return {"version": version, "client": given}


def session_of(session_id: str, kept: Mapping[bytes, bytes]) -> Session:
    """Return the session that was kept as these fields."""
    texts = {name.decode(): value.decode() for name, value in kept.items()}
    client = texts.get("client")
    used_s = max(0.0, time.time() - int(texts["seen"]) / _US)
    return Session(
        id=session_id,
        tenant_id=int(texts["tenant"]),
        owner=texts["owner"],
        version=texts.get("version", LATEST_HANDSHAKE_VERSION),
        transport="sse" if texts["transport"] == "sse" else "streamable",
        client=mcp.InitializeRequestParams.model_validate_json(client, by_name=False) if client else None,
        initialized="initialized" in texts,
        level=texts.get("level"),
        uris=frozenset(name.removeprefix(SUBSCRIBED) for name in texts if name.startswith(SUBSCRIBED)),
        touched_at=time.monotonic() - used_s,
    )
