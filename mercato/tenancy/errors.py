"""What tenancy refuses.

TenancyError
 ├── NotFound          there is no such thing for this tenant
 ├── AlreadyExists     a name is taken
 ├── InvalidValue      a value a person gave cannot be used
 ├── Busy              too much is going on at once
 └── WrongTenant       a row of another tenant was about to be written
"""

from __future__ import annotations


class TenancyError(Exception):
    """The root of what tenancy refuses; its text is a sentence for a person."""


class NotFound(TenancyError):
    """There is no such thing, or it belongs to somebody else: the two are never told apart."""


class AlreadyExists(TenancyError):
    """A name that must be unique is taken."""


class InvalidValue(TenancyError):
    """A value that a person gave cannot be used; the text says what can."""


class Busy(TenancyError):
    """Too much of a costly kind is going on at once; a little later it works."""


class WrongTenant(TenancyError):
    """A row of another tenant was about to be written: a programming error, refused before the database does."""
