"""Row-level security for a tenant's table: one call in the migration that creates it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

APP = "mercato_app"
SYSTEM = "mercato_system"
_OWN_ROWS = "tenant_id = (select nullif(current_setting('app.tenant_id', true), '')::bigint)"


def protect_tenant_rows(op: Any, table: str, *, app: Sequence[str] = ("select", "insert", "update", "delete")) -> None:
    """Force row-level security on `schema.table` and let each tenant at its own rows only. `op` is `alembic.op`.

    `app` lists what tools may do with them; leave out what must stay, such as deleting from a ledger, and everything
    where no tool has any business. The owner of the table is bound too (FORCE), and `truncate` is granted to nobody,
    because policies do not cover it.
    """
    op.execute(f"alter table {table} enable row level security")
    op.execute(f"alter table {table} force row level security")
    op.execute(f"create policy tenant on {table} for all to {APP} using ({_OWN_ROWS}) with check ({_OWN_ROWS})")
    if app:
        op.execute(f"grant {', '.join(app)} on {table} to {APP}")
    schema = table.partition(".")[0]
    op.execute(f"grant usage on schema {schema} to {APP}")
    if "insert" in app:
        op.execute(f"grant usage, select on all sequences in schema {schema} to {APP}")
