"""What the migrations make: the tables of the models, and row-level security on all that is a tenant's."""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.ext.asyncio import create_async_engine
from sqlmodel import SQLModel

import mercato.plugins
import mercato.tenancy
from mercato.migrations.runner import CORE, CORE_VERSIONS
from mercato.tenancy.rows import TenantOwned

SCHEMAS = [
    CORE,
    *sorted(path.parent.name for path in Path(mercato.plugins.__path__[0]).glob("*/migrations") if path.is_dir()),
]
OF_NOBODY = {
    "mercato.identities",
    "mercato.oauth_clients",
    "mercato.passwords",
    "mercato.sessions",
    "mercato.signing_keys",
    "mercato.tenants",
    "mercato.used_assertions",
    "mercato.users",
}
"""The tables whose rows belong to no tenant."""
OWN_TABLES = {"schema_version", "schema_fingerprint"}
PARTITION = re.compile(r"usage_\d{4}_\d{2}")
"""Of a table that is made in parts while the server runs; nobody reaches a part but through its table."""


@pytest.fixture(scope="module")
async def ask(anyio_backend, runtime, mercato_addresses):
    """Put a question to the migrated database, as the owner of its tables."""
    url = sa.make_url(mercato_addresses.database_url).set(drivername="postgresql+asyncpg")
    engine = create_async_engine(url, poolclass=sa.NullPool)

    async def question(statement, **values):
        async with engine.connect() as connection:
            if callable(statement):
                return await connection.run_sync(statement)
            return (await connection.execute(sa.text(statement), values)).all()

    yield question
    await engine.dispose()


@pytest.fixture(scope="module")
async def tables_of_tenants(ask):
    """The tables that have a `tenant_id`, as `schema.table`."""
    found = await ask(
        "select format('%s.%s', table_schema, table_name) from information_schema.columns"
        " where column_name = 'tenant_id' and table_schema = any(:schemas)",
        schemas=SCHEMAS,
    )
    return sorted(row[0] for row in found if not PARTITION.fullmatch(row[0].partition(".")[2]))


@pytest.mark.parametrize("schema", SCHEMAS)
async def test_the_migrated_tables_are_those_of_the_models(ask, schema):
    if schema == CORE:
        for module in pkgutil.iter_modules(mercato.tenancy.__path__):
            importlib.import_module(f"mercato.tenancy.{module.name}")
    else:
        importlib.import_module(f"mercato.plugins.{schema}.models")

    def differences(connection):
        options = {
            "include_schemas": True,
            "include_name": lambda name, kind, parents: name == schema if kind == "schema" else not _is_no_models(name),
            "include_object": lambda thing, name, kind, *_: kind != "table" or thing.schema == schema,
            "compare_type": True,
            "compare_server_default": True,
        }
        return compare_metadata(MigrationContext.configure(connection, opts=options), SQLModel.metadata)

    assert [found for found in await ask(differences) if not _is_the_tenants_default(found)] == []


def _is_no_models(name):
    return name in OWN_TABLES or PARTITION.fullmatch(name or "") is not None


def _is_the_tenants_default(difference):
    """Whether it is the default of `tenant_id`, which PostgreSQL writes down in other words than ours."""
    return isinstance(difference, list) and difference[0][0] == "modify_default" and difference[0][3] == "tenant_id"


def test_the_schemas_of_the_plugins_are_found():
    assert SCHEMAS[0] == CORE
    assert CORE_VERSIONS.is_dir()


async def test_row_level_security_is_forced_on_every_table_of_a_tenant(ask, tables_of_tenants):
    assert "mercato.grants" in tables_of_tenants
    unprotected = await ask(
        "select oid::regclass::text from pg_class where oid = any(cast(:tables as regclass[]))"
        " and not (relrowsecurity and relforcerowsecurity)",
        tables=tables_of_tenants,
    )
    assert unprotected == []


async def test_every_table_of_a_tenant_has_one_policy_for_tools_that_compares_the_tenant(ask, tables_of_tenants):
    policies = await ask(
        "select format('%s.%s', schemaname, tablename), qual, with_check from pg_policies"
        " where 'mercato_app' = any(roles) and format('%s.%s', schemaname, tablename) = any(:tables)",
        tables=tables_of_tenants,
    )
    assert sorted(row[0] for row in policies) == tables_of_tenants
    for _, qual, check in policies:
        assert qual == check
        assert "tenant_id = " in qual
        assert "current_setting('app.tenant_id'" in qual


async def test_no_policy_is_for_everybody(ask):
    assert await ask("select policyname from pg_policies where 'public' = any(roles)") == []


async def test_the_tables_without_a_tenant_are_known(ask, tables_of_tenants):
    found = await ask(
        "select format('%s.%s', schemaname, tablename) from pg_tables where schemaname = any(:schemas)"
        " and tablename <> all(:own)",
        schemas=SCHEMAS,
        own=sorted(OWN_TABLES),
    )
    whole = {row[0] for row in found if not PARTITION.fullmatch(row[0].partition(".")[2])}
    assert whole - set(tables_of_tenants) == OF_NOBODY


async def test_an_index_led_by_the_tenant_is_on_every_table_of_one(ask, tables_of_tenants):
    led = await ask(
        "select distinct indrelid::regclass::text from pg_index join pg_attribute"
        " on attrelid = indrelid and attnum = indkey[0] where attname = 'tenant_id' and indpred is null"
    )
    assert [table for table in tables_of_tenants if table not in {row[0] for row in led}] == []


async def test_foreign_keys_between_tables_of_tenants_carry_the_tenant(ask, tables_of_tenants):
    loose = await ask(
        "select conrelid::regclass::text, conname from pg_constraint where contype = 'f'"
        " and conrelid = any(cast(:tables as regclass[])) and confrelid = any(cast(:tables as regclass[]))"
        " and not exists (select from unnest(conkey, confkey) as pair (own, other)"
        "  join pg_attribute a on a.attrelid = conrelid and a.attnum = own and a.attname = 'tenant_id'"
        "  join pg_attribute b on b.attrelid = confrelid and b.attnum = other and b.attname = 'tenant_id')",
        tables=tables_of_tenants,
    )
    assert loose == []


async def test_unique_constraints_of_tenants_include_the_tenant(ask, tables_of_tenants):
    loose = await ask(
        "select conname from pg_constraint where contype = 'u' and conrelid = any(cast(:tables as regclass[]))"
        " and not exists (select from pg_attribute where attrelid = conrelid and attnum = any(conkey)"
        "  and attname = 'tenant_id')",
        tables=tables_of_tenants,
    )
    looked_up_before_the_tenant_is_known = {
        "uq_api_keys_digest",
        "uq_authorization_codes_digest",
        "uq_refresh_answers_digest",
    }
    assert {row[0] for row in loose} == looked_up_before_the_tenant_is_known


async def test_no_foreign_key_crosses_from_one_plugin_to_another(ask):
    crossing = await ask(
        "select conname from pg_constraint join pg_class a on a.oid = conrelid join pg_class b on b.oid = confrelid"
        " where contype = 'f' and a.relnamespace <> b.relnamespace and b.relnamespace <> 'mercato'::regnamespace"
    )
    assert crossing == []


async def test_nobody_may_truncate_or_own_but_the_owner(ask):
    granted = await ask(
        "select grantee, table_name, privilege_type from information_schema.role_table_grants"
        " where grantee in ('mercato_app', 'mercato_system', 'PUBLIC') and table_schema = any(:schemas)"
        " and privilege_type not in ('SELECT', 'INSERT', 'UPDATE', 'DELETE')",
        schemas=SCHEMAS,
    )
    assert granted == []


async def test_the_system_role_reaches_only_what_must_be_read_before_the_tenant_is_known(ask):
    granted = await ask(
        "select distinct format('%s.%s', table_schema, table_name) from information_schema.role_table_grants"
        " where grantee = 'mercato_system'"
    )
    assert {row[0] for row in granted} == OF_NOBODY | {
        "mercato.alerts",
        "mercato.answers",
        "mercato.api_keys",
        "mercato.audit_anchors",
        "mercato.audit_entries",
        "mercato.audit_heads",
        "mercato.authorization_codes",
        "mercato.circuits",
        "mercato.client_grants",
        "mercato.export_parts",
        "mercato.invitations",
        "mercato.jobs",
        "mercato.memberships",
        "mercato.refresh_answers",
        "mercato.schedules",
        "mercato.tenant_limits",
        "mercato.ticks",
        "mercato.usage",
    }


async def test_tools_reach_nothing_that_could_let_anybody_in(ask):
    granted = await ask(
        "select distinct format('%s.%s', table_schema, table_name) from information_schema.role_table_grants"
        " where grantee = 'mercato_app'"
    )
    hidden = (OF_NOBODY - {"mercato.tenants", "mercato.users"}) | {
        "mercato.audit_anchors",
        "mercato.audit_heads",
        "mercato.authorization_codes",
        "mercato.refresh_answers",
    }
    assert {row[0] for row in granted} & hidden == set()


async def test_the_roles_that_serve_can_neither_log_in_nor_pass_by_the_policies(ask):
    roles = await ask(
        "select rolname, rolcanlogin or rolsuper or rolbypassrls or rolcreaterole or rolcreatedb from pg_roles"
        " where rolname in ('mercato_app', 'mercato_system')"
    )
    assert dict(map(tuple, roles)) == {"mercato_app": False, "mercato_system": False}


def test_every_model_of_a_tenant_has_the_mixin():
    without = [
        mapper.class_.__name__
        for mapper in SQLModel._sa_registry.mappers
        if "tenant_id" in mapper.columns and not issubclass(mapper.class_, TenantOwned)
    ]
    assert without == []
