"""Client: who we are to the authorization server."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Client:
    """A public client. `client_secret` is there only where a server gave one that nobody asked for."""

    client_id: str
    client_secret: str = field(default="", repr=False)
