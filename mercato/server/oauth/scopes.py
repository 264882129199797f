"""Scopes: reading, writing, and one for each category."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mercato.server.oauth.errors import OAuthError
from mercato.tenancy.principal import READ, WRITE
from mercato.tenancy.reach import Reach

OFFLINE = "offline_access"
LONGEST = 1_024


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a client asks for. No category named means any: the person chooses."""

    categories: frozenset[str]
    write: bool


def offered(categories: Iterable[str], reach: Reach) -> list[str]:
    """Return the scopes that lead somewhere at an address."""
    verbs = [READ] if reach.read_only else [READ, WRITE]
    return verbs + sorted(category for category in categories if reach.holds(category))


def asked_for(reach: Reach) -> str:
    """Return the scopes that a client without any is told to ask for: the person cuts them to size."""
    verbs = [READ] if reach.read_only else [READ, WRITE]
    return " ".join([*verbs, *sorted(reach.categories or ())])


def parse(scope: str | None, categories: Iterable[str], reach: Reach) -> Wanted:
    """Return what a scope asks for, within an address. Raises `OAuthError` where none of it is known here.

    What is unknown is left out, as RFC 6749 (3.3) allows: the answer says what was granted. Without a scope, it is
    everything that reads.
    """
    known = set(offered(categories, reach))
    words = check_length(scope or "").split()
    found = set(words) & known
    if words and not found and OFFLINE not in words:
        raise OAuthError("invalid_scope", f"None of these scopes exists here. Scopes: {' '.join(sorted(known))}.")
    return Wanted(frozenset(found - {READ, WRITE}), WRITE in found)


def check_length(scope: str) -> str:
    """Return a scope as it is. Raises `OAuthError` for one that is too long."""
    if len(scope) > LONGEST:
        raise OAuthError("invalid_scope", f"A scope may have {LONGEST:,} characters at most.")
    return scope


def granted(categories: Iterable[str], *, write: bool) -> list[str]:
    """Return the scopes of what a person ticked."""
    return [READ, *([WRITE] if write else []), *sorted(categories)]


def narrowed(scope: str | None, held: Sequence[str]) -> list[str]:
    """Return the scopes of a refresh: those asked for, which must be held already. Raises `OAuthError`."""
    words = [word for word in check_length(scope or "").split() if word != OFFLINE]
    wider = [word for word in words if word not in held]
    if wider:
        raise OAuthError("invalid_scope", f"The scope {wider[0]} was not granted: ask the person again.")
    return [word for word in held if word in words] if words else list(held)
