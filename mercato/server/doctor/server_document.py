"""The authorization server's document (RFC 8414): one issuer, safe endpoints, and what clients insist on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx

from mercato.server.doctor.address import (
    SET_PUBLIC_URL,
    difference,
    host_of,
    is_loopback,
    is_safe,
    origin_of,
    server_places,
    without_query,
)
from mercato.server.doctor.finding import Finding, fault, ok, warning
from mercato.server.doctor.judgement import redirected, refused, slow, unanswered
from mercato.server.doctor.wire import Answer

if TYPE_CHECKING:
    from mercato.server.doctor.examination import Examination

_NEEDED = ("authorization_endpoint", "token_endpoint")
_ENDPOINTS = (*_NEEDED, "registration_endpoint", "revocation_endpoint", "jwks_uri")


async def check_server_document(examination: Examination) -> list[Finding]:
    """Fetch the document from where clients look, and check the first that is one, and the keys it points to."""
    answers = [await examination.wire.get(place) for place in server_places(examination.issuer)]
    served = [answer for answer in answers if answer.status == 200 and answer.document is not None]
    if not served:
        return [_nowhere(answers)]
    document = served[0].document or {}
    examination.server = document if all(_is_address(document.get(name)) for name in _NEEDED) else {}
    found = [*slow(served[0]), *_issuers(served, examination.issuer), *judge_server(document)]
    return [*found, *await _keys(examination, document)]


def _is_address(value: object) -> bool:
    try:
        return isinstance(value, str) and bool(httpx.URL(value).host)
    except httpx.InvalidURL:
        return False


def _nowhere(answers: list[Answer]) -> Finding:
    for answer in answers:
        missing = unanswered(answer) or (redirected(answer) if answer.location else refused(answer))
        if missing is not None:
            return missing
    first = answers[0]
    kind = "a web page (HTML)" if first.is_html else str(first.status)
    mend = "Give the proxy a rule that passes /.well-known/* on to the server; serve RFC 8414 metadata there."
    return fault(f"{without_query(first.url)} answers {kind}, not a JSON document", mend)


def _issuers(served: list[Answer], issuer: str) -> list[Finding]:
    found = [_issuer(answer.document or {}, issuer) for answer in served]
    wrong = [one for one in found if one.status != "ok"]
    return list(dict.fromkeys(wrong)) or found[:1]


def _issuer(document: dict[str, Any], issuer: str) -> Finding:
    said = document.get("issuer")
    if not isinstance(said, str):
        return fault("issuer is missing", f"Name it as the resource's document does: {issuer}.")
    if said == issuer:
        return ok("issuer is the one that the resource's document names")
    how, mend = difference(said, issuer)
    message = f"issuer ({without_query(said)}) is not the one of the resource's document ({without_query(issuer)})"
    return fault(f"{message}: it {how}", mend)


def judge_server(document: dict[str, Any]) -> list[Finding]:
    """Check the document itself."""
    return [
        *_judge_endpoints(document),
        *_judge_pkce(document),
        *_judge_clients(document),
        *_judge_iss(document),
        *_judge_grants(document),
    ]


def _judge_endpoints(document: dict[str, Any]) -> list[Finding]:
    found: list[Finding] = []
    host = host_of(str(document.get("issuer", "")))
    for name in _ENDPOINTS:
        url = document.get(name)
        if _is_address(url):
            found += _judge_endpoint(name, str(url), host)
        elif name in _NEEDED or url is not None:
            found.append(fault(f"{name} is missing or no address", "Name it: clients do not guess."))
    return found or [ok("its endpoints are safe and on the issuer's host")]


def _judge_endpoint(name: str, url: str, host: str) -> list[Finding]:
    if not is_safe(url):
        mend = f"{SET_PUBLIC_URL}, with https. The proxy ends TLS, and the server takes its own address for http."
        return [fault(f"{name} ({without_query(url)}) is http", mend)]
    if host_of(url) == host:
        return []
    message = f"{name} ({without_query(url)}) is on another host than the issuer"
    if is_loopback(url):
        return [fault(message, f"{SET_PUBLIC_URL}: clients cannot reach the server's loopback.")]
    return [warning(message, f"{SET_PUBLIC_URL}, unless this is meant.")]


def _judge_pkce(document: dict[str, Any]) -> list[Finding]:
    methods = _listed(document, "code_challenge_methods_supported")
    if "S256" not in methods:
        mend = 'Say `"code_challenge_methods_supported": ["S256"]`: clients must refuse a server that does not.'
        return [fault("code_challenge_methods_supported lacks S256", mend)]
    if "plain" in methods:
        return [
            warning("code_challenge_methods_supported holds plain", "Leave it out, and refuse it: it hides nothing.")
        ]
    return [ok("PKCE with S256")]


def _judge_clients(document: dict[str, Any]) -> list[Finding]:
    """How a client that nobody knows yet can become known, without a secret."""
    found: list[Finding] = []
    if "none" not in _listed(document, "token_endpoint_auth_methods_supported"):
        mend = "Add `none` and accept public clients: without it Claude and others do not use client documents (CIMD)."
        found.append(fault("token_endpoint_auth_methods_supported lacks none", mend))
    by_document = document.get("client_id_metadata_document_supported") is True
    registers = isinstance(document.get("registration_endpoint"), str)
    if not by_document and not registers:
        mend = "Accept client documents (CIMD) or offer a registration_endpoint (DCR); clients cannot begin else."
        found.append(fault("neither client documents (CIMD) nor registration (DCR)", mend))
    elif not by_document:
        mend = "Accept them, and say client_id_metadata_document_supported: each connection registers a client else."
        found.append(warning("no client documents (CIMD), only registration (DCR)", mend))
    elif not registers:
        mend = "Offer a registration_endpoint too: Cursor, mcp-remote and others know nothing else."
        found.append(warning("no registration (DCR), only client documents (CIMD)", mend))
    return found or [ok("client documents (CIMD), registration (DCR), public clients")]


def _judge_iss(document: dict[str, Any]) -> list[Finding]:
    if document.get("authorization_response_iss_parameter_supported") is True:
        return []
    mend = "Send `iss` in every answer (RFC 9207) and say so: ChatGPT needs an address per connector else."
    return [warning("authorization_response_iss_parameter_supported is not said", mend)]


def _judge_grants(document: dict[str, Any]) -> list[Finding]:
    found: list[Finding] = []
    if "code" not in _listed(document, "response_types_supported"):
        found.append(fault("response_types_supported lacks code", 'Say `"response_types_supported": ["code"]`.'))
    grants = document.get("grant_types_supported", ["authorization_code", "implicit"])
    if not isinstance(grants, list) or "authorization_code" not in grants:
        found.append(fault("grant_types_supported lacks authorization_code", "Add it."))
    elif "refresh_token" not in grants:
        mend = "Offer it and say so, or people sign in again whenever a token ends."
        found.append(warning("grant_types_supported lacks refresh_token", mend))
    if "offline_access" not in _listed(document, "scopes_supported"):
        mend = "Add it, or give refresh tokens without it: some clients ask for one only where it is said."
        found.append(warning("scopes_supported lacks offline_access", mend))
    return found or [ok("code and refresh grants, offline_access")]


async def _keys(examination: Examination, document: dict[str, Any]) -> list[Finding]:
    url = document.get("jwks_uri")
    if not isinstance(url, str) or not origin_of(url):
        return []
    answer = await examination.wire.get(url)
    if answer.status == 200 and isinstance((answer.document or {}).get("keys"), list):
        return [ok("jwks_uri answers")]
    return [fault(f"jwks_uri ({without_query(url)}) holds no keys", "Serve the public keys there, or leave it out.")]


def _listed(document: dict[str, Any], name: str) -> list[Any]:
    value = document.get(name)
    return value if isinstance(value, list) else []
