"""Refusals: requests that would let a code be stolen, none of which may come as far as a page to sign in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mercato.server.doctor.authorize import Outcome, attempt
from mercato.server.doctor.finding import Finding, fault, ok, warning

if TYPE_CHECKING:
    from mercato.server.doctor.examination import Examination

FOREIGN_REDIRECT = "https://connector-doctor.invalid/callback"
FOREIGN_RESOURCE = "https://connector-doctor.invalid/mcp"
"""Names under .invalid belong to nobody, for ever (RFC 2606); nothing is sent there."""
_STATE = "refusal"


async def check_refusals(examination: Examination) -> list[Finding]:
    """Ask without PKCE, with plain, for a foreign redirect, for a foreign resource."""
    client_id = examination.client.client_id if examination.client is not None else ""
    without = await attempt(examination, client_id, _STATE, code_challenge=None, code_challenge_method=None)
    plain = await attempt(examination, client_id, _STATE, code_challenge_method="plain")
    redirect = await attempt(examination, client_id, _STATE, redirect_uri=FOREIGN_REDIRECT)
    resource = await attempt(examination, client_id, _STATE, resource=FOREIGN_RESOURCE)
    found = [
        judge_pkce(without, "without a code_challenge"),
        judge_pkce(plain, "with code_challenge_method=plain"),
        judge_redirect(redirect),
        judge_resource(resource),
    ]
    return [*found, *judge_error_redirects([without, plain, resource], examination)]


def judge_pkce(outcome: Outcome, how: str) -> Finding:
    """Check that a request without a proof is refused."""
    if outcome.is_refusal:
        return ok(f"a request {how} is refused")
    if outcome.kind == "broken":
        return _unclear(f"a request {how}", outcome)
    mend = "Require PKCE with S256 of every client, before anybody is asked to sign in."
    return fault(f"PKCE is not enforced: a request {how} led to {outcome}", mend)


def judge_redirect(outcome: Outcome) -> Finding:
    """Check that nobody is sent to an address that the client did not register."""
    mend = "Compare redirect_uri letter by letter with the registered ones; show an error page where none is equal."
    if outcome.kind == "redirect":
        return fault("open redirect: an address that was not registered is redirected to", mend)
    if outcome.kind == "refused":
        return ok("a redirect_uri that was not registered is refused")
    if outcome.kind == "broken":
        return _unclear("a redirect_uri that was not registered", outcome)
    return warning(f"a redirect_uri that was not registered led to {outcome}", mend)


def judge_resource(outcome: Outcome) -> Finding:
    """Check that there is no token for somebody else's resource."""
    mend = "Refuse a `resource` that you do not serve with the error invalid_target (RFC 8707)."
    if outcome.error == "invalid_target":
        return ok("a foreign resource is refused with invalid_target")
    if outcome.is_refusal:
        return warning(f"a foreign resource is refused, but with {outcome}", mend)
    if outcome.kind == "broken":
        return _unclear("a foreign resource", outcome)
    return fault(f"a foreign resource is not refused: it led to {outcome}", mend)


def judge_error_redirects(outcomes: list[Outcome], examination: Examination) -> list[Finding]:
    """Check that errors carry `state` and `iss` as codes do."""
    redirects = [outcome.parameters for outcome in outcomes if outcome.kind == "redirect"]
    found: list[Finding] = []
    if any(parameters.get("state") != _STATE for parameters in redirects):
        found.append(fault("an error comes back without its state", "Send `state` back as it came, with errors too."))
    if any(not iss_is_right(parameters.get("iss"), examination) for parameters in redirects):
        mend = f"Send iss={examination.issuer} with every answer, errors too (RFC 9207)."
        found.append(fault("an error comes back without iss, or with another", mend))
    return found


def iss_is_right(iss: str | None, examination: Examination) -> bool:
    """Whether an answer's `iss` is the issuer; where the server does not say that it sends one, none is right too."""
    said = examination.server.get("authorization_response_iss_parameter_supported") is True
    return iss == examination.server.get("issuer") or (iss is None and not said)


def _unclear(what: str, outcome: Outcome) -> Finding:
    mend = "Answer with an OAuth error. Read the server's log."
    return fault(f"{what} is neither refused nor served: {outcome}", mend)
