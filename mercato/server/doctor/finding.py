"""Finding: what one look at a server showed, and how to mend it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

_LONGEST = 600

Status = Literal["ok", "warning", "fault"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. `step` is filled in by the examination; nothing in here is ever secret."""

    status: Status
    message: str
    mend: str = ""
    step: str = ""

    def at(self, step: str) -> Finding:
        """Return it with its step, and with the server's words in it made safe for a terminal."""
        return Finding(self.status, _printable(self.message), _printable(self.mend), step)

    def as_json(self) -> dict[str, str]:
        """Return it for programs."""
        return {"step": self.step, "status": self.status, "message": self.message, "mend": self.mend}


def ok(message: str) -> Finding:
    """Return a finding that needs nothing."""
    return Finding("ok", message)


def warning(message: str, mend: str) -> Finding:
    """Return a finding that troubles some clients, or only sometimes."""
    return Finding("warning", message, mend)


def fault(message: str, mend: str) -> Finding:
    """Return a finding that keeps a client out."""
    return Finding("fault", message, mend)


def _printable(text: str) -> str:
    shown = "".join(character if character.isprintable() else "?" for character in text)
    return shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}…"
