"""Passwords: hashed with argon2id, compared in a thread, and as slowly for an account that does not exist."""

from __future__ import annotations

import secrets
import unicodedata
from datetime import datetime

import anyio
import anyio.to_thread
import sqlalchemy as sa
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.profiles import RFC_9106_LOW_MEMORY
from sqlmodel import Field, SQLModel

from mercato.tenancy.errors import Busy, InvalidValue
from mercato.tenancy.rows import CORE_SCHEMA, timestamp

SHORTEST, LONGEST = 12, 256
_AT_ONCE = 2
"""Comparisons at a time: each takes 64 MiB and a core, and the rest of the server must go on."""
_MOST_WAITING = 400


class Password(SQLModel, table=True):
    """The hash of a person's password. Somebody who signs in elsewhere has none."""

    __tablename__ = "passwords"
    __table_args__ = (
        sa.ForeignKeyConstraint(["user_id"], [f"{CORE_SCHEMA}.users.id"]),
        {"schema": CORE_SCHEMA},
    )

    user_id: int = Field(sa_type=sa.BigInteger, primary_key=True, sa_column_kwargs={"autoincrement": False})
    hash: str
    changed_at: datetime = timestamp(now=True)


class Passwords:
    """Hashes and compares (RFC 9106, second recommended option: 64 MiB, 3 passes)."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher.from_parameters(RFC_9106_LOW_MEMORY)
        self._limiter = anyio.CapacityLimiter(_AT_ONCE)
        self._nobodys: str | None = None

    async def hash(self, password: str) -> str:
        """Return the hash of a password. Raises `Busy`, and `InvalidValue` for one that is too short or too long."""
        cleaned = check_password(password)
        self._refuse_a_crowd()
        return await anyio.to_thread.run_sync(self._hasher.hash, cleaned, limiter=self._limiter)

    async def matches(self, password: str, stored: str | None) -> bool:
        """Whether this is the password. Takes as long for None, so that nobody learns which accounts exist.

        Raises `Busy`.
        """
        self._refuse_a_crowd()
        if stored is None and self._nobodys is None:
            self._nobodys = await self.hash(secrets.token_urlsafe())
        known = stored or self._nobodys or ""
        good = await anyio.to_thread.run_sync(self._verify, known, _normal(password), limiter=self._limiter)
        return good and stored is not None

    def _refuse_a_crowd(self) -> None:
        if self._limiter.statistics().tasks_waiting >= _MOST_WAITING:
            raise Busy("Too many people are signing in at this moment. Try again in a minute.")

    def _verify(self, stored: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored, password)
        except (VerificationError, InvalidHashError):
            return False


def check_password(password: str) -> str:
    """Return a password as it is hashed. Raises `InvalidValue`, which says what is wrong with it."""
    cleaned = _normal(password)
    if len(cleaned) < SHORTEST:
        raise InvalidValue(f"A password needs {SHORTEST} characters or more; a few words make a good one.")
    if len(cleaned) > LONGEST:
        raise InvalidValue(f"A password may have {LONGEST} characters at most.")
    if len(set(cleaned)) < 4:
        raise InvalidValue("This password is one of the first that anybody would guess.")
    return cleaned


def _normal(password: str) -> str:
    """The same text whichever keyboard typed it (NIST SP 800-63B, 5.1.1.2)."""
    return unicodedata.normalize("NFKC", password[: 4 * LONGEST])[: LONGEST + 1]
