"""Principal: who is calling, for which tenant, and what that credential covers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from mercato.tenancy.memberships import Role

READ = "tools:read"
WRITE = "tools:write"

Kind = Literal["key", "token", "session", "local"]


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is calling: the same for an API key, an OAuth token, a browser session and the local terminal.

    `scopes` holds `tools:read`, `tools:write` and names of categories. `categories` is what the credential is
    narrowed to; None means every category that the tenant has on.
    """

    tenant_id: int
    user_id: int | None
    role: Role
    scopes: frozenset[str]
    categories: frozenset[str] | None
    kind: Kind
    credential_id: int | None = None
    client_id: str | None = None
    grant_id: int | None = None
    expires_at: datetime | None = None

    @property
    def reads(self) -> bool:
        """Whether the credential may call what only reads."""
        return READ in self.scopes

    @property
    def writes(self) -> bool:
        """Whether the credential may call what writes."""
        return WRITE in self.scopes and self.role.writes

    def covers(self, category: str) -> bool:
        """Whether the credential reaches this category at all."""
        return self.categories is None or category in self.categories
