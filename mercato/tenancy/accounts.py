"""Accounts: people, who may be members of several tenants, and how they prove who they are."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlmodel import SQLModel, col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from mercato.tenancy.database import Database
from mercato.tenancy.errors import InvalidValue, NotFound
from mercato.tenancy.passwords import Password, Passwords
from mercato.tenancy.rows import CORE_SCHEMA, identity, reference, timestamp

_LONGEST_NAME = 200


class User(SQLModel, table=True):
    """A person. The e-mail address is unique without regard to case and kept in lower case."""

    __tablename__ = "users"
    __table_args__ = (sa.UniqueConstraint("email"), {"schema": CORE_SCHEMA})

    id: int = identity()
    email: str
    name: str
    created_at: datetime = timestamp(now=True)
    last_login_at: datetime | None = timestamp(nullable=True)


class Identity(SQLModel, table=True):
    """An account elsewhere that a person signs in with: the issuer and subject of an OpenID provider."""

    __tablename__ = "identities"
    __table_args__ = (
        sa.UniqueConstraint("issuer", "subject"),
        sa.ForeignKeyConstraint(["user_id"], [f"{CORE_SCHEMA}.users.id"]),
        {"schema": CORE_SCHEMA},
    )

    id: int = identity()
    user_id: int = reference()
    issuer: str
    subject: str
    created_at: datetime = timestamp(now=True)


@dataclass(frozen=True, slots=True)
class Account:
    """A person as pages and commands see them. `has_sign_in` is whether they have any way in of their own yet."""

    user_id: int
    email: str
    name: str
    has_password: bool
    has_sign_in: bool


def clean_email(email: str) -> str:
    """Return the address in the form that is stored. Raises `InvalidValue`."""
    cleaned = email.strip().lower()
    local, _, domain = cleaned.partition("@")
    if not local or "." not in domain or any(part.isspace() for part in cleaned) or len(cleaned) > 254:
        raise InvalidValue(f"{email[:254]!r} is no e-mail address.")
    if "\0" in cleaned or "@" in domain:
        raise InvalidValue("This is no e-mail address.")
    return cleaned


def clean_name(name: str) -> str:
    """Return a person's name on one line. Raises `InvalidValue` where nothing is left of it."""
    cleaned = shown_text(name)[:_LONGEST_NAME]
    if not cleaned:
        raise InvalidValue("Say a name.")
    return cleaned


def shown_text(text: str) -> str:
    """Return a text on one line, without what hides or turns it: control characters, directions."""
    return " ".join("".join(part if part.isprintable() else " " for part in text).split())


async def find_account(database: Database, email: str) -> Account:
    """Return the account of this address. Raises `NotFound` or `InvalidValue`."""
    address = clean_email(email)
    async with database.system() as session:
        row = (await session.exec(_accounts().where(col(User.email) == address))).first()
    if row is None:
        raise NotFound(f"There is no account for {address}.")
    return Account(*row)


async def read_account(database: Database, user_id: int) -> Account:
    """Return the account of this id. Raises `NotFound`."""
    async with database.system() as session:
        row = (await session.exec(_accounts().where(col(User.id) == user_id))).first()
    if row is None:
        raise NotFound(f"There is no account {user_id}.")
    return Account(*row)


async def ensure_account(session: AsyncSession, email: str, name: str) -> User:
    """Return the account of a clean address, made if there is none."""
    insert = postgresql.insert(User).values(email=email, name=name).on_conflict_do_nothing(index_elements=["email"])
    await session.exec(insert)  # two that come together make one account
    return (await session.exec(select(User).where(User.email == email))).one()


async def sign_in(
    database: Database, passwords: Passwords, email: str, password: str, *, lane: str = ""
) -> Account | None:
    """Return the account whose password this is; None for a wrong one and for no account, without a difference.

    `lane` is where the attempt comes from, see `Passwords`.
    """
    try:
        address = clean_email(email)
    except InvalidValue:
        address = ""
    async with database.system() as session:
        row = (
            await session.exec(
                select(User.id, Password.hash)
                .join(Password, col(Password.user_id) == User.id)
                .where(User.email == address)
            )
        ).first()
    if not await passwords.matches(password, row[1] if row else None, lane=lane) or row is None:
        return None
    return await read_account(database, row[0])


async def sign_in_by_identity(
    database: Database, issuer: str, subject: str, verified_email: str | None
) -> Account | None:
    """Return the account behind an identity elsewhere; None where there is none.

    An identity seen for the first time is tied to the account of its address, if its provider says that the address
    is verified, and from then on to that account whatever the address becomes.
    """
    async with database.system() as session:
        known = select(Identity.user_id).where(Identity.issuer == issuer, Identity.subject == subject)
        user_id = (await session.exec(known)).first()
        if user_id is None and verified_email is not None:
            user = (await session.exec(select(User).where(User.email == clean_email(verified_email)))).first()
            if user is not None:
                insert = postgresql.insert(Identity).values(user_id=user.id, issuer=issuer, subject=subject)
                await session.exec(insert.on_conflict_do_nothing(index_elements=["issuer", "subject"]))
                user_id = (await session.exec(known)).first()  # two may come together
    if user_id is None:
        return None
    return await read_account(database, user_id)


async def is_password(database: Database, passwords: Passwords, user_id: int, password: str, *, lane: str = "") -> bool:
    """Whether this is the account's password."""
    async with database.system() as session:
        stored = (await session.exec(select(Password.hash).where(Password.user_id == user_id))).first()
    return await passwords.matches(password, stored, lane=lane)


async def open_account(
    database: Database, passwords: Passwords, email: str, name: str, password: str, *, lane: str = ""
) -> int:
    """Make an account that signs in with a password, or give one that cannot sign in yet its name and password.

    Returns its id. Raises `InvalidValue`, also where the account has got a way in meanwhile.
    """
    hashed, address = await passwords.hash(password, lane=lane), clean_email(email)
    async with database.system() as session:
        user_id = await _open(session, address, name, hashed)
    if user_id is None:
        raise InvalidValue("This account has a password already: sign in with it.")
    return user_id


async def open_account_elsewhere(database: Database, issuer: str, subject: str, email: str, name: str) -> int:
    """Make an account that signs in at an OpenID provider, or let the one of this address do so; return its id.

    The address must be verified, and its owner known to be wanted here: invited.
    """
    async with database.system() as session:
        user = await ensure_account(session, email, name)
        insert = postgresql.insert(Identity).values(user_id=user.id, issuer=issuer, subject=subject)
        await session.exec(insert.on_conflict_do_nothing(index_elements=["issuer", "subject"]))
        known = select(Identity.user_id).where(Identity.issuer == issuer, Identity.subject == subject)
        if (await session.exec(known)).one() != user.id:
            raise InvalidValue("You sign in here with another address: the invitation is for this one.")
        return user.id


async def first_account(database: Database, passwords: Passwords, email: str, name: str, password: str) -> int:
    """Open the account of the first set-up, or return the one that an attempt before left behind.

    Raises `InvalidValue`, also where that one has another password.
    """
    try:
        return await open_account(database, passwords, email, name, password)
    except InvalidValue:
        account = await sign_in(database, passwords, email, password)
        if account is None:
            raise
        return account.user_id


async def set_password(
    database: Database, passwords: Passwords, user_id: int, password: str, *, lane: str = ""
) -> None:
    """Give an account a password, in the place of an older one. Raises `InvalidValue`."""
    hashed = await passwords.hash(password, lane=lane)
    insert = postgresql.insert(Password).values(user_id=user_id, hash=hashed)
    changed = {"hash": hashed, "changed_at": sa.func.now()}
    async with database.system() as session:
        await session.exec(insert.on_conflict_do_update(index_elements=["user_id"], set_=changed))


async def _open(session: AsyncSession, email: str, name: str, hashed: str) -> int | None:
    user = await ensure_account(session, email, name)
    if (await session.exec(select(Identity.id).where(Identity.user_id == user.id))).first() is not None:
        return None
    insert = postgresql.insert(Password).values(user_id=user.id, hash=hashed).on_conflict_do_nothing()
    if (await session.exec(insert.returning(col(Password.user_id)))).first() is None:
        return None
    user.name = name
    return user.id


def _accounts() -> Any:
    password = sa.exists().where(col(Password.user_id) == User.id)
    elsewhere = sa.exists().where(col(Identity.user_id) == User.id)
    return sa.select(col(User.id), col(User.email), col(User.name), password, sa.or_(password, elsewhere))
