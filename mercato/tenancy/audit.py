"""Audit: who did what to which effect, written in the same transaction as the write itself.

Writers take no lock and read no other entry; `audit_chain` numbers and seals what they have committed, afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, col

from mercato.tenancy.accounts import User
from mercato.tenancy.audit_digest import new_salt, salted_digest
from mercato.tenancy.database import TenantDatabase
from mercato.tenancy.pages import Page, read_page
from mercato.tenancy.principal import Principal
from mercato.tenancy.rows import CORE_SCHEMA, TenantOwned, identity, reference, timestamp

MASK = "***"
_SECRET_NAME = re.compile(
    r"secret|token|password|passwd|api_?key|authorization|credential|cookie|^sealed", re.IGNORECASE
)
_SECRET_VALUE = re.compile(r"\b(?:mck_|shp(?:at|ss|ca)_|Bearer )[\w.~+/=-]+")
_LONGEST_TEXT = 2_000


def _set_later(column_type: Any) -> Any:
    """Return a field that is no part of an insert: tools may not write it."""
    options = {"server_default": sa.FetchedValue()}
    return Field(default=None, sa_type=column_type, nullable=True, sa_column_kwargs=options)


class AuditEntry(TenantOwned, table=True):
    """One write: the principal, the action (a tool's or command's name), its arguments and its effect.

    The chain holds the digests of the last two. An entry whose arguments were erased has neither them nor a salt.
    """

    __tablename__ = "audit_entries"
    __table_args__ = (
        sa.ForeignKeyConstraint(["tenant_id"], [f"{CORE_SCHEMA}.tenants.id"]),
        sa.Index(None, "tenant_id", "id"),
        sa.Index(None, "tenant_id", "number", unique=True, postgresql_where=sa.text("number is not null")),
        sa.Index(None, "id", postgresql_where=sa.text("number is null")),
        {"schema": CORE_SCHEMA},
    )

    id: int = identity()
    at: datetime = timestamp(now=True)
    user_id: int | None = reference(nullable=True)
    kind: str
    credential_id: int | None = reference(nullable=True)
    client_id: str | None = None
    request_id: str | None = None
    action: str
    arguments: dict[str, Any] = Field(sa_type=JSONB)
    effect: dict[str, Any] = Field(sa_type=JSONB)
    salt: bytes | None = Field(default=None, sa_type=sa.LargeBinary, nullable=True)
    arguments_digest: bytes | None = Field(default=None, sa_type=sa.LargeBinary, nullable=True)
    effect_digest: bytes | None = Field(default=None, sa_type=sa.LargeBinary, nullable=True)
    number: int | None = _set_later(sa.BigInteger)
    seal: bytes | None = _set_later(sa.LargeBinary)
    erased_at: datetime | None = _set_later(sa.DateTime(timezone=True))
    erasure: bytes | None = _set_later(sa.LargeBinary)


def record(
    db: TenantDatabase,
    principal: Principal,
    action: str,
    arguments: Mapping[str, Any],
    effect: Mapping[str, Any],
    *,
    request_id: str | None = None,
) -> None:
    """Add an entry to the transaction at hand. Secrets are masked, long texts shortened."""
    db.session.add(AuditEntry(**entry_values(principal, action, arguments, effect, request_id=request_id)))


def entry_values(
    principal: Principal,
    action: str,
    arguments: Mapping[str, Any],
    effect: Mapping[str, Any],
    *,
    request_id: str | None = None,
) -> dict[str, Any]:
    """Return what an entry holds, by column, with the digests of what it may lose one day."""
    salt, shown_arguments, shown_effect = new_salt(), masked(arguments), masked(effect)
    return {
        "user_id": principal.user_id,
        "kind": principal.kind,
        "credential_id": principal.credential_id,
        "client_id": principal.client_id,
        "request_id": request_id,
        "action": action,
        "arguments": shown_arguments,
        "effect": shown_effect,
        "salt": salt,
        "arguments_digest": salted_digest(salt, shown_arguments),
        "effect_digest": salted_digest(salt, shown_effect),
    }


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry as it is shown, with its user's name where it has a user.

    One with `erased_at` has lost its arguments and its effect, because somebody asked for that.
    """

    id: int
    at: datetime
    user_id: int | None
    user: str | None
    kind: str
    client_id: str | None
    request_id: str | None
    action: str
    arguments: dict[str, Any]
    effect: dict[str, Any]
    erased_at: datetime | None


async def list_entries(
    db: TenantDatabase,
    *,
    user_id: int | None = None,
    action: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    before_id: int | None = None,
    limit: int,
) -> Page[Entry]:
    """Return entries, newest first, from `since` to just before `until`; below an id, to go on from there."""
    entry_id, at = col(AuditEntry.id), col(AuditEntry.at)
    wanted = _entries()
    if user_id is not None:
        wanted = wanted.where(col(AuditEntry.user_id) == user_id)
    if action is not None:
        wanted = wanted.where(col(AuditEntry.action) == action)
    if since is not None:
        wanted = wanted.where(at >= since)
    if until is not None:
        wanted = wanted.where(at < until)
    position = None if before_id is None else entry_id < before_id
    return await read_page(db, wanted, Entry, order=entry_id.desc(), position=position, limit=limit)


def _entries() -> sa.Select[Any]:
    shown = (item.name for item in fields(Entry))
    columns: list[Any] = [User.name if name == "user" else getattr(AuditEntry, name) for name in shown]
    return sa.select(*columns).select_from(AuditEntry).outerjoin(User, col(User.id) == AuditEntry.user_id)


def masked(value: Any) -> Any:
    """Return a copy without secrets: values under telling names, and texts that look like keys."""
    if isinstance(value, Mapping):
        return {
            str(name): MASK if _SECRET_NAME.search(str(name)) and item is not None else masked(item)
            for name, item in value.items()
        }
    if isinstance(value, str):
        return _SECRET_VALUE.sub(MASK, value)[:_LONGEST_TEXT]
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [masked(item) for item in value]
    return value
