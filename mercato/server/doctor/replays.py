"""Replays: what was spent is sent again. Last of all, since a server may rightly end the grant for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mercato.server.doctor.finding import Finding, fault, ok, warning
from mercato.server.doctor.judgement import unanswered
from mercato.server.doctor.tokens import exchange_code, refresh
from mercato.server.doctor.wire import Answer

if TYPE_CHECKING:
    from mercato.server.doctor.examination import Examination


async def check_replays(examination: Examination) -> list[Finding]:
    """Send the spent refresh token, then the spent code; then give back what was granted."""
    found: list[Finding] = []
    if examination.spent_refresh_token:
        found.append(judge_refresh(await refresh(examination, examination.spent_refresh_token)))
    found.append(judge_code(await exchange_code(examination)))
    await _give_back(examination)
    return found


def judge_refresh(answer: Answer) -> Finding:
    """Check that a client whose answer was lost on the way can ask again."""
    if answer.status == 200:
        return ok("a refresh whose answer was lost can be sent again")
    mend = "Give the same answer again for a while (120 s): a lost answer signs people out else."
    return warning(f"a refresh token sent again at once is refused ({_words(answer)}): no grace", mend)


def judge_code(answer: Answer) -> Finding:
    """Check that a code works once."""
    if answer.status == 200:
        return fault("a code can be used twice", "Take each code once, atomically; a second time ends what it gave.")
    if answer.error == "invalid_grant":
        return ok("a code that was used is refused")
    mend = "Answer 400 with the error invalid_grant."
    return warning(f"a code that was used is refused, but with {_words(answer)}", mend)


async def _give_back(examination: Examination) -> None:
    """Revoke the grant, so that an examination leaves nothing open; whether it worked shows nothing new."""
    endpoint = examination.server.get("revocation_endpoint")
    token = examination.refresh_token or examination.access_token
    if isinstance(endpoint, str) and token and examination.client is not None:
        await examination.wire.post_form(endpoint, {"token": token, "client_id": examination.client.client_id})


def _words(answer: Answer) -> str:
    missing = unanswered(answer)
    return missing.message if missing is not None else f"{answer.status} {answer.error}".rstrip()
