"""Authorization requests: how they are made, and what came of one without a person."""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal
from urllib.parse import parse_qsl, urldefrag

import httpx

from mercato.server.doctor.address import origin_of, without_query
from mercato.server.doctor.judgement import unanswered
from mercato.server.doctor.wire import Answer

if TYPE_CHECKING:
    from mercato.server.doctor.examination import Examination

_MOST_REDIRECTS = 5

Kind = Literal["page", "redirect", "elsewhere", "refused", "broken"]


@dataclass(frozen=True)
class Outcome:
    """What came of a request: a page for a person, a redirect to the client, or a refusal.

    `elsewhere` is a redirect to another host that is not the client's address: as a rule, to a sign-in there.
    """

    kind: Kind
    answer: Answer
    parameters: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def error(self) -> str:
        """The OAuth error that the client is told; empty where it is told none."""
        return self.parameters.get("error", "") if self.kind == "redirect" else self.answer.error

    @property
    def is_refusal(self) -> bool:
        """Whether nobody was asked to sign in, and no code was given."""
        return self.kind == "refused" or (self.kind == "redirect" and "error" in self.parameters)

    def __str__(self) -> str:
        """Say it in words, without codes or states."""
        if self.kind == "redirect":
            return f"a redirect to the client with {f'the error {self.error}' if self.error else 'no error'}"
        if self.kind == "elsewhere":
            return f"a redirect to {without_query(self.answer.location)}"
        if self.kind == "page":
            return "a page to sign in"
        missing = unanswered(self.answer)
        return missing.message if missing is not None else f"{self.answer.status} {self.error}".rstrip()


def new_verifier() -> str:
    """Return a PKCE verifier."""
    return secrets.token_urlsafe(48)


def challenge_of(verifier: str) -> str:
    """Return a verifier's S256 challenge."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def resource_of(examination: Examination) -> str:
    """Return the `resource` that a client names: the document's, else the address."""
    named = examination.resource.get("resource")
    return named if isinstance(named, str) and origin_of(named) else examination.url


def scope_of(examination: Examination) -> str:
    """Return the scopes that a client asks for: the challenge's, else the resource's; offline_access if it is said."""
    listed = examination.resource.get("scopes_supported")
    scopes = examination.challenge.get("scope", "").split() or _strings(listed)
    offline = examination.server.get("scopes_supported")
    if "offline_access" in _strings(offline) and "offline_access" not in scopes:
        scopes.append("offline_access")
    return " ".join(scopes)


def _strings(value: object) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def parameters_of(examination: Examination, client_id: str, verifier: str, state: str) -> dict[str, str]:
    """Return the parameters of a request as it should be."""
    scope = scope_of(examination)
    return {
        "response_type": "code",
        "client_id": client_id,
        "redirect_uri": examination.listener.redirect_uri,
        "code_challenge": challenge_of(verifier),
        "code_challenge_method": "S256",
        "state": state,
        "resource": resource_of(examination),
        **({"scope": scope} if scope else {}),
    }


def address_of(examination: Examination, parameters: Mapping[str, str]) -> str:
    """Return the address that a browser is sent to."""
    return str(httpx.URL(examination.server["authorization_endpoint"]).copy_merge_params(dict(parameters)))


async def attempt(examination: Examination, client_id: str, state: str, **changes: str | None) -> Outcome:
    """Send a request as it should be, but for the changes (None leaves a parameter out); nobody will sign in."""
    given = {**parameters_of(examination, client_id, new_verifier(), state), **changes}
    parameters = {name: value for name, value in given.items() if value is not None}
    answer = await examination.wire.get(address_of(examination, parameters))
    return await _outcome(examination, answer, parameters["redirect_uri"])


async def _outcome(examination: Examination, answer: Answer, redirect_uri: str) -> Outcome:
    """Follow redirects as a browser does, but on the server's own host only."""
    origin = origin_of(answer.url)
    for _ in range(_MOST_REDIRECTS):
        there = answer.location
        if not there:
            break
        address, query = urldefrag(there).url.partition("?")[::2]
        if address == redirect_uri:
            return Outcome("redirect", answer, dict(parse_qsl(query, keep_blank_values=True)))
        if origin_of(there) != origin:
            return Outcome("elsewhere", answer)
        answer = await examination.wire.get(there)
    if answer.failure is None and 200 <= answer.status < 300:
        return Outcome("page", answer)
    return Outcome("refused" if 400 <= answer.status < 500 else "broken", answer)
