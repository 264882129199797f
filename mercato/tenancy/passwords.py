"""Passwords: hashed with argon2id, compared in a thread, and as slowly for an account that does not exist."""

from __future__ import annotations

import secrets
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

import anyio
import anyio.to_thread
import sqlalchemy as sa
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlmodel import Field, SQLModel

from mercato.tenancy.errors import Busy, InvalidValue
from mercato.tenancy.rows import CORE_SCHEMA, timestamp

SHORTEST, LONGEST = 12, 256
_AT_ONCE = 2
"""Comparisons at a time: each takes a core, and the rest of the server must go on."""
_MOST_WAITING, _FAIR_SHARE = 2_000, 50
"""Above the first, a lane that has its share already is refused; others are not."""

Result = TypeVar("Result")


@dataclass(slots=True)
class _Lane:
    """The comparisons of one origin, one after the other."""

    lock: anyio.Lock = field(default_factory=anyio.Lock)
    users: int = 0


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
    """Hashes and compares, a few at a time (OWASP's recommendation for argon2id: 19 MiB, 2 passes, 1 lane).

    Each call says where it comes from, its `lane`: one lane has one comparison at a time, so that a crowd from one
    address delays itself and nobody else.
    """

    def __init__(self) -> None:
        self._hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
        self._limiter = anyio.CapacityLimiter(_AT_ONCE)
        self._lanes: dict[str, _Lane] = {}
        self._waiting = 0
        self._nobodys: str | None = None

    async def hash(self, password: str, *, lane: str = "") -> str:
        """Return the hash of a password. Raises `Busy`, and `InvalidValue` for one that is too short or too long."""
        cleaned = check_password(password)
        return await self._run(lane, self._hasher.hash, cleaned)

    async def matches(self, password: str, stored: str | None, *, lane: str = "") -> bool:
        """Whether this is the password. Takes as long for None, so that nobody learns which accounts exist.

        Raises `Busy`.
        """
        if stored is None and self._nobodys is None:
            self._nobodys = await self.hash(secrets.token_urlsafe(), lane=lane)
        known = stored or self._nobodys or ""
        good = await self._run(lane, self._verify, known, _normal(password))
        return good and stored is not None

    async def _run(self, name: str, work: Callable[..., Result], *arguments: str) -> Result:
        lane = self._lanes.setdefault(name, _Lane())
        share = max(_FAIR_SHARE, _MOST_WAITING // len(self._lanes))
        if self._waiting >= _MOST_WAITING and lane.users >= share:
            raise Busy("Too many people are signing in at this moment. Try again in a minute.")
        self._waiting += 1
        lane.users += 1
        try:
            async with lane.lock:
                return await anyio.to_thread.run_sync(work, *arguments, limiter=self._limiter)
        finally:
            self._waiting -= 1
            lane.users -= 1
            if not lane.users:
                self._lanes.pop(name, None)

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
