"""Alembic's environment: runs one plugin's versions, over the connection that the runner hands in."""

from __future__ import annotations

from alembic import context

attributes = context.config.attributes


def _of_this_schema(name: str | None, kind: str, parents: object) -> bool:
    return name == attributes["schema"] if kind == "schema" else True


context.configure(
    connection=attributes["connection"],
    target_metadata=attributes.get("metadata"),
    version_table="schema_version",
    version_table_schema=attributes["schema"],
    include_schemas=True,
    include_name=_of_this_schema,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
