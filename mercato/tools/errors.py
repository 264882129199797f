"""What a tool tells the model when it cannot do what was asked.

ToolError              its text is written for the model; everything else becomes a reference id
 ├── InvalidArguments  the arguments do not fit the tool's parameters
 ├── SwitchedOff       the tenant has switched the tool or its category off
 ├── NotConnected      the tool needs an outside service that the tenant has not connected
 ├── ConfirmationNeeded  what cannot be undone was asked for without a confirmation
 ├── Declined          the person was asked, and said no
 ├── TimedOut          the tool took longer than it may
 ├── AnswerTooLarge    the answer is longer than a model should read
 ├── LimitReached      a limit of the tenant, the caller or the tool was reached, or the day's budget
 ├── Unavailable       what the server stands on does not answer at the moment
 └── InternalFault     something unexpected; only its reference leaves the server
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class ToolError(Exception):
    """A failure the model may read and act upon.

    `message` is a sentence: the cause, then what to do. `field` names the parameter at fault, `allowed` its possible
    values, `next_step` what to try; `retryable` says whether the very same call may succeed later.
    """

    code = "error"

    def __init__(
        self,
        message: str,
        *,
        field: str | None = None,
        allowed: Sequence[Any] = (),
        next_step: str | None = None,
        retryable: bool = False,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.allowed = list(allowed)
        self.next_step = next_step
        self.retryable = retryable

    def text(self) -> str:
        """Return what the model reads: the message, the allowed values, the next step."""
        parts = [self.message]
        if self.allowed:
            parts.append(f"Allowed: {', '.join(map(str, self.allowed))}.")
        if self.next_step:
            parts.append(self.next_step)
        return " ".join(parts)

    def data(self) -> dict[str, Any]:
        """Return the same for a program; it travels in the result's `_meta` under `mercato/error`."""
        data: dict[str, Any] = {"code": self.code, "retryable": self.retryable}
        if self.field is not None:
            data["field"] = self.field
        if self.allowed:
            data["allowed"] = self.allowed
        return data


class InvalidArguments(ToolError):
    """The arguments do not fit the tool's parameters; carries an example that does, where one is known."""

    code = "invalid_arguments"

    def __init__(
        self, message: str, *, field: str | None, allowed: Sequence[Any], example: dict[str, Any] | None
    ) -> None:
        super().__init__(message, field=field, allowed=allowed)
        self.example = example

    def text(self) -> str:
        """Return the message, which has the allowed values where they belong."""
        return self.message

    def data(self) -> dict[str, Any]:
        """Return the data with the corrected example."""
        return super().data() | ({} if self.example is None else {"example": self.example})


class SwitchedOff(ToolError):
    """The tenant has switched the tool or its category off."""

    code = "switched_off"


class NotConnected(ToolError):
    """The tool needs an outside service that the tenant has not connected."""

    code = "not_connected"


class ConfirmationNeeded(ToolError):
    """What cannot be undone was asked for without a confirmation, by a client that cannot ask its user."""

    code = "confirmation_needed"


class Declined(ToolError):
    """The person was asked, and said no or gave no answer."""

    code = "declined"


class TimedOut(ToolError):
    """The tool took longer than it may; nothing was written."""

    code = "timed_out"


class AnswerTooLarge(ToolError):
    """The answer is longer than a model should read; nothing was cut off silently."""

    code = "answer_too_large"


BUDGET = "cents_per_day"
"""The limit of what a tenant may spend in a day, by the name that it is set by."""


class LimitReached(ToolError):
    """A limit was reached: which one, whose it is, and after how many seconds the same call will be let through."""

    code = "limit_reached"

    def __init__(self, limit: str, *, whose: str, most: int, window_s: int, retry_after_s: int) -> None:
        what = f"{most:,} cents a day" if limit == BUDGET else f"{most:,} calls in {window_s} seconds"
        super().__init__(
            f"The limit `{limit}` of {whose} is reached ({what}); nothing was done.",
            next_step=f"Wait {retry_after_s} seconds before you call again, and tell the person if that is long.",
            retryable=True,
        )
        self.limit = limit
        self.whose = whose
        self.most = most
        self.window_s = window_s
        self.retry_after_s = retry_after_s

    def data(self) -> dict[str, Any]:
        """Return which limit it was, and how long to wait."""
        return super().data() | {
            "limit": self.limit,
            "whose": self.whose,
            "most": self.most,
            "window_s": self.window_s,
            "retry_after_s": self.retry_after_s,
        }


class Unavailable(ToolError):
    """What the server stands on does not answer at the moment; it will again."""

    code = "unavailable"

    def __init__(self, message: str, *, next_step: str) -> None:
        super().__init__(message, next_step=next_step, retryable=True)


class InternalFault(ToolError):
    """Something unexpected. The log has the trace under the same reference; the model gets only the reference."""

    code = "internal_fault"

    def __init__(self, reference: str) -> None:
        super().__init__(
            f"Something went wrong on the server, and nothing was changed. Reference: {reference}.", retryable=True
        )
        self.reference = reference

    def data(self) -> dict[str, Any]:
        """Return the data with the reference."""
        return {**super().data(), "reference": self.reference}
