"""Usage: one record for each call, in monthly partitions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from mercato.migrations.protect import protect_tenant_rows

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

CURRENT_TENANT = "nullif(current_setting('app.tenant_id', true), '')::bigint"
LOCK = 0x7573616765  # "usage"


def upgrade() -> None:
    """Create the table, without partitions, and the functions that make and drop them.

    Both functions run as the owner of the tables, because the roles that serve own nothing. Tools may read their
    tenant's records; the system writes records and cannot read them.
    """
    _usage()
    protect_tenant_rows(op, "mercato.usage", app=("select",))
    op.execute("create policy system on mercato.usage for insert to mercato_system with check (true)")
    op.execute("grant insert on mercato.usage to mercato_system")
    op.execute(MAKE_PARTITION)
    op.execute(DROP_BEFORE)
    for function in ("make_usage_partition(date)", "drop_usage_before(date)"):
        op.execute(f"revoke execute on function mercato.{function} from public")
        op.execute(f"grant execute on function mercato.{function} to mercato_system")


def downgrade() -> None:
    """Remove them, with every record."""
    op.execute("drop function mercato.drop_usage_before, mercato.make_usage_partition")
    op.drop_table("usage", schema="mercato")


def _usage() -> None:
    """No foreign key: a tenant is never deleted, and a check for each record would cost more than writing it."""
    op.create_table(
        "usage",
        sa.Column("tenant_id", sa.BigInteger, nullable=False, server_default=sa.text(CURRENT_TENANT)),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("id", sa.BigInteger, nullable=False),
        sa.Column("user_id", sa.BigInteger, nullable=True),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("credential_id", sa.BigInteger, nullable=True),
        sa.Column("client_id", sa.String, nullable=True),
        sa.Column("session_id", sa.String, nullable=True),
        sa.Column("request_id", sa.String, nullable=False),
        sa.Column("tool", sa.String, nullable=False),
        sa.Column("category", sa.String, nullable=False),
        sa.Column("outcome", sa.String, nullable=False),
        sa.Column("duration_us", sa.BigInteger, nullable=False),
        sa.Column("request_bytes", sa.Integer, nullable=False),
        sa.Column("answer_bytes", sa.Integer, nullable=False),
        sa.Column("request_tokens", sa.Integer, nullable=False),
        sa.Column("answer_tokens", sa.Integer, nullable=False),
        sa.Column("cost_cents", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "at", "id", name="pk_usage"),
        schema="mercato",
        postgresql_partition_by="RANGE (at)",
    )
    for column in ("request_tokens", "answer_tokens"):
        op.execute(f"comment on column mercato.usage.{column} is 'estimated: one for each 3.9 bytes'")


# Attached, not made as a partition: that takes no lock which readers or writers of the table would wait for. Nobody
# has a right on a partition itself: it is reached through the table, under the table's policies.
MAKE_PARTITION = f"""
create function mercato.make_usage_partition(month date) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    first date := date_trunc('month', month::timestamp)::date;
    name text := 'usage_' || to_char(first, 'YYYY_MM');
begin
    if exists (select from pg_class where relname = name and relnamespace = 'mercato'::regnamespace) then
        return false;
    end if;
    perform pg_advisory_xact_lock({LOCK});
    if exists (select from pg_class where relname = name and relnamespace = 'mercato'::regnamespace) then
        return false;
    end if;
    execute format('create table mercato.%I (like mercato.usage including defaults including comments)', name);
    execute format('alter table mercato.%I enable row level security, force row level security', name);
    execute format(
        'alter table mercato.usage attach partition mercato.%I for values from (%L) to (%L)',
        name, first || ' 00:00:00+00', (first + interval '1 month')::date || ' 00:00:00+00'
    );
    return true;
end
$$
"""

DROP_BEFORE = f"""
create function mercato.drop_usage_before(month date) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    name text;
    dropped integer := 0;
begin
    perform pg_advisory_xact_lock({LOCK});
    for name in
        select relname from pg_inherits join pg_class on pg_class.oid = inhrelid
        where inhparent = 'mercato.usage'::regclass
        and to_date(substr(relname, 7), 'YYYY_MM') < date_trunc('month', month::timestamp)
    loop
        execute format('drop table mercato.%I', name);
        dropped := dropped + 1;
    end loop;
    return dropped;
end
$$
"""
