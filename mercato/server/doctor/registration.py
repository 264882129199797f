"""Registration (RFC 7591): a client that nobody knows registers itself, without a secret."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mercato.server.doctor.client import Client
from mercato.server.doctor.finding import Finding, fault, ok, warning
from mercato.server.doctor.judgement import redirected, refused, slow, unanswered
from mercato.server.doctor.messages import CLIENT_NAME
from mercato.server.doctor.wire import Answer

if TYPE_CHECKING:
    from mercato.server.doctor.examination import Examination


async def check_registration(examination: Examination) -> list[Finding]:
    """Register a public client on loopback, where the server offers it; the later steps go on as that client."""
    endpoint = examination.server.get("registration_endpoint")
    if not isinstance(endpoint, str):
        return []
    redirect_uri = examination.listener.redirect_uri
    answer = await examination.wire.post_json(endpoint, _description(redirect_uri))
    document = answer.document or {}
    if answer.status in {200, 201} and isinstance(document.get("client_id"), str):
        examination.client = Client(document["client_id"], str(document.get("client_secret") or ""))
    return judge_registration(answer, redirect_uri)


def _description(redirect_uri: str) -> dict[str, Any]:
    return {
        "client_name": CLIENT_NAME,
        "redirect_uris": [redirect_uri],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": "none",
        "application_type": "native",
    }


def judge_registration(answer: Answer, redirect_uri: str) -> list[Finding]:
    """Check what a registration was answered."""
    trouble = unanswered(answer) or (redirected(answer) if answer.location else refused(answer))
    if trouble is not None:
        return [trouble]
    document = answer.document or {}
    if answer.status not in {200, 201} or not isinstance(document.get("client_id"), str):
        mend = "Let public clients register without credentials: name, loopback redirect, auth method none."
        return [fault(f"registration is refused: {answer.status} {answer.error}".rstrip(), mend), *slow(answer)]
    return [*(_judge_client(answer, document, redirect_uri) or [ok("a public client can register")]), *slow(answer)]


def _judge_client(answer: Answer, document: dict[str, Any], redirect_uri: str) -> list[Finding]:
    found: list[Finding] = []
    if answer.status != 201:
        found.append(warning(f"registration is answered {answer.status}", "Answer 201, as RFC 7591 says."))
    method = document.get("token_endpoint_auth_method", "client_secret_basic")
    if method != "none":
        mend = "Keep the method that the client asked for: it cannot keep a secret."
        found.append(fault(f"a client that asked for token_endpoint_auth_method none got {method}", mend))
    if document.get("redirect_uris") != [redirect_uri]:
        found.append(fault("other redirect_uris came back than were sent", "Keep them as they are, or refuse."))
    return found
