"""What a tool is called with and what it answers, sealed in the ledger: either may hold a secret."""

from __future__ import annotations

import base64
from typing import Any, Literal

import orjson

from mercato.tenancy.secrets import KeyRing

Column = Literal["payload", "result"]


def seal(ring: KeyRing, tenant_id: int, column: Column, value: Any) -> str:
    """Return a value as text for a column of a tenant's runs."""
    return base64.b64encode(ring.seal(orjson.dumps(value), (tenant_id, "jobs", column, 0))).decode()


def unseal(ring: KeyRing, tenant_id: int, column: Column, text: str) -> Any:
    """Return the value. Raises `InvalidValue` where its key is gone."""
    return orjson.loads(ring.open(base64.b64decode(text), (tenant_id, "jobs", column, 0)))
