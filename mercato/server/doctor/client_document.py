"""Client documents (CIMD): a client whose id is the address of its own description is accepted."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mercato.server.doctor.authorize import Outcome, attempt
from mercato.server.doctor.client import Client
from mercato.server.doctor.finding import Finding, fault, ok, warning
from mercato.server.doctor.judgement import slow

if TYPE_CHECKING:
    from mercato.server.doctor.examination import Examination

DEFAULT_CIMD = "https://claude.ai/oauth/claude-code-client-metadata"
_NOT_FETCHED = re.compile(
    r"fetch|\breach|unreachable|resolve|retriev|download|timed? ?out|unavailable"
    r"|could not be read|did not answer|answered \d{3}|not a public address",
    re.IGNORECASE,
)


async def check_client_document(examination: Examination) -> list[Finding]:
    """Begin to sign in as a well-known client, where the server says that it takes such clients."""
    if examination.server.get("client_id_metadata_document_supported") is not True:
        return []
    outcome = await attempt(examination, examination.cimd, "client-document")
    found = judge_outcome(outcome, examination.cimd)
    if found.status == "ok":
        examination.client = Client(examination.cimd)
    return [found, *slow(outcome.answer)]


def judge_outcome(outcome: Outcome, cimd: str) -> Finding:
    """Say whether the client was accepted."""
    if outcome.kind in {"page", "elsewhere"} or (outcome.kind == "redirect" and outcome.error != "invalid_client"):
        return ok(f"{cimd} is accepted as a client: {outcome}")
    if outcome.kind == "broken" or _NOT_FETCHED.search(_readable(outcome)):
        mend = "Let the server fetch https addresses (egress, DNS, certificates), or clients fall back to registration."
        return warning(f"the server could not fetch {cimd}: {outcome}", mend)
    mend = "Fetch the document at the client_id, and accept its redirect_uris; on loopback with any port (RFC 8252)."
    return fault(f"{cimd} is refused, though client documents are said to be supported: {outcome}", mend)


def _readable(outcome: Outcome) -> str:
    """Return the words of a refusal, without the markup of a page and without addresses."""
    words = re.sub(r"<(script|style).*?</\1>|<[^>]*>", " ", outcome.answer.text, flags=re.DOTALL | re.IGNORECASE)
    return re.sub(r"https?://\S+", " ", words + outcome.parameters.get("error_description", ""))
