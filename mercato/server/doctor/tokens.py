"""Tokens: the code becomes a token, and the token is renewed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mercato.server.doctor.authorize import resource_of
from mercato.server.doctor.finding import Finding, fault, ok, warning
from mercato.server.doctor.judgement import redirected, refused, slow, unanswered
from mercato.server.doctor.wire import Answer

if TYPE_CHECKING:
    from mercato.server.doctor.examination import Examination

_SHORTEST_S = 300


async def check_token(examination: Examination) -> list[Finding]:
    """Exchange the code."""
    answer = await exchange_code(examination)
    found = judge_token(answer, examination.code.scope if examination.code is not None else "")
    _keep(examination, answer)
    return found


async def exchange_code(examination: Examination) -> Answer:
    """Send the code with its verifier; what comes back is not kept."""
    assert examination.code is not None  # noqa: S101  # the step's needs
    fields = {
        "grant_type": "authorization_code",
        "code": examination.code.code,
        "redirect_uri": examination.listener.redirect_uri,
        "code_verifier": examination.code.verifier,
        "resource": resource_of(examination),
    }
    return await examination.wire.post_form(_endpoint(examination), fields | _client(examination))


async def check_refresh(examination: Examination) -> list[Finding]:
    """Renew the token once; the tool calls after it use the new one."""
    spent = examination.refresh_token
    answer = await refresh(examination, spent)
    if not _is_token(answer):
        mend = "Accept each refresh token once, from the client that got it, with the same resource."
        return [_trouble(answer) or fault(f"a refresh is refused: {answer.status} {answer.error}".rstrip(), mend)]
    _keep(examination, answer)
    examination.spent_refresh_token = spent if examination.refresh_token != spent else ""
    rotates = "a new refresh token too" if examination.spent_refresh_token else "the refresh token stays"
    return [ok(f"a refresh gives a new token, {rotates}"), *slow(answer)]


async def refresh(examination: Examination, refresh_token: str) -> Answer:
    """Send a refresh token; what comes back is not kept."""
    fields = {
        "grant_type": "refresh_token",
        "refresh_token": refresh_token,
        "resource": resource_of(examination),
    }
    return await examination.wire.post_form(_endpoint(examination), fields | _client(examination))


def judge_token(answer: Answer, asked_scope: str) -> list[Finding]:
    """Check what a code was exchanged for."""
    if not _is_token(answer):
        mend = "Accept the code once, from its client, with its redirect_uri, verifier and resource. Read the log."
        refusal = f"the code is refused: {answer.status} {answer.error}".rstrip()
        return [_trouble(answer) or fault(refusal, mend)]
    document = answer.document or {}
    found = [*_judge_type(document), *_judge_life(document), *_judge_scope(document, asked_scope)]
    if not any(one.status == "fault" for one in found):
        found.insert(0, ok("the code gives a Bearer token"))
    return [*found, *slow(answer)]


def _judge_type(document: dict[str, Any]) -> list[Finding]:
    said = document.get("token_type")
    if isinstance(said, str) and said.lower() == "bearer":
        return []
    return [fault("token_type is not Bearer", 'Say `"token_type": "Bearer"`.')]


def _judge_life(document: dict[str, Any]) -> list[Finding]:
    life, renewable = document.get("expires_in"), bool(document.get("refresh_token"))
    if not isinstance(life, int):
        return [warning("expires_in is not said", "Say how many seconds the token lives: clients renew in time then.")]
    if not renewable:
        mend = "Give a refresh_token, also without offline_access: Claude does not ask for it everywhere."
        return [fault(f"no refresh_token: people must sign in again after {life} s", mend)]
    if life < _SHORTEST_S:
        return [warning(f"the token lives only {life} s", "Let it live an hour: some clients renew late.")]
    return []


def _judge_scope(document: dict[str, Any], asked: str) -> list[Finding]:
    said = document.get("scope")
    if isinstance(said, str) or not asked:
        return []
    return [warning("scope is not said", "Say what was granted: clients take it for all that they asked for else.")]


def _keep(examination: Examination, answer: Answer) -> None:
    if _is_token(answer):
        document = answer.document or {}
        examination.access_token = document["access_token"]
        examination.refresh_token = str(document.get("refresh_token") or examination.refresh_token)


def _is_token(answer: Answer) -> bool:
    return answer.status == 200 and isinstance((answer.document or {}).get("access_token"), str)


def _trouble(answer: Answer) -> Finding | None:
    """Return the fault where it was not the token endpoint that refused."""
    trouble = unanswered(answer) or (redirected(answer) if answer.location else refused(answer))
    if trouble is None and answer.document is None:
        mend = "Answer JSON with an OAuth `error`, never a page, and exempt the endpoint from CSRF and sign-in checks."
        return fault(f"the token endpoint answers {answer.status} without JSON", mend)
    return trouble


def _endpoint(examination: Examination) -> str:
    return str(examination.server["token_endpoint"])


def _client(examination: Examination) -> dict[str, str]:
    client = examination.client
    if client is None:
        return {}
    secret = {"client_secret": client.client_secret} if client.client_secret else {}
    return {"client_id": client.client_id, **secret}
