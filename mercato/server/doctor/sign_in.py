"""Sign in: a person goes to the server's page and comes back with a code."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mercato.server.doctor.authorize import address_of, new_verifier, parameters_of, scope_of
from mercato.server.doctor.finding import Finding, fault, ok
from mercato.server.doctor.refusals import iss_is_right

if TYPE_CHECKING:
    from mercato.server.doctor.examination import Examination


@dataclass(frozen=True)
class Code:
    """What a sign-in gave, the verifier that proves that it was ours, and the scope that was asked for."""

    code: str = field(repr=False)
    verifier: str = field(repr=False)
    scope: str = ""


async def check_sign_in(examination: Examination) -> list[Finding]:
    """Show the address, wait for the answer, and keep the code that it brings."""
    if examination.open_url is None or examination.client is None:
        return []
    verifier, state = new_verifier(), secrets.token_urlsafe(24)
    parameters = parameters_of(examination, examination.client.client_id, verifier, state)
    await examination.open_url(address_of(examination, parameters))
    answer = await examination.listener.answer(examination.wait_s)
    if answer is None:
        mend = "Sign in within that time (--wait), in a browser on this machine: the answer comes to its loopback."
        return [fault(f"nobody came back within {examination.wait_s:.0f} s", mend)]
    found = judge_answer(answer, state, examination)
    if answer.get("code") and answer.get("state") == state:
        examination.code = Code(answer["code"], verifier, scope_of(examination))
    return found


def judge_answer(answer: Mapping[str, str], state: str, examination: Examination) -> list[Finding]:
    """Check what the browser brought back."""
    found: list[Finding] = []
    if answer.get("state") != state:
        found.append(fault("the answer came with another state than was sent", "Send `state` back as it came."))
    if not iss_is_right(answer.get("iss"), examination):
        mend = f"Send iss={examination.issuer} with every answer (RFC 9207), or do not say that you do."
        found.append(fault("the answer came without iss, or with another than the issuer", mend))
    if "error" in answer:
        mend = "Consent to the access; otherwise read the server's log."
        found.append(fault(f"the sign-in ended with the error {answer['error'][:60]}", mend))
    elif not answer.get("code"):
        found.append(fault("the answer came without a code", "Send `code` in the query."))
    return found or [ok("signed in, and back with a code, the state and the issuer")]
