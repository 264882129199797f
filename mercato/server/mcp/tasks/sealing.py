"""What a tool is called with, is told and answers, sealed in the ledger: each may hold a secret."""

from __future__ import annotations

import base64
import json
from typing import Any, Literal

from mercato.tenancy.secrets import KeyRing

Column = Literal["payload", "exchange", "result"]


def seal(ring: KeyRing, tenant_id: int, column: Column, row: int, value: Any) -> str:
    """Return a value as text for a column of one run of a tenant; `row` is a number that only this run has."""
    # The standard library's JSON: it can say every number that a request can hold.
    return base64.b64encode(ring.seal(json.dumps(value).encode(), (tenant_id, "jobs", column, row))).decode()


def unseal(ring: KeyRing, tenant_id: int, column: Column, row: int, text: str) -> Any:
    """Return the value. Raises `InvalidValue` where its key is gone, or the text belongs to another run."""
    return json.loads(ring.open(base64.b64decode(text), (tenant_id, "jobs", column, row)))
