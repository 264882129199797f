"""The protected resource's document (RFC 9728): it must name the very address that was typed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mercato.server.doctor.address import SET_PUBLIC_URL, difference, is_safe, origin_of, resource_places, without_query
from mercato.server.doctor.finding import Finding, fault, ok, warning
from mercato.server.doctor.judgement import redirected, refused, slow, unanswered
from mercato.server.doctor.wire import Answer

if TYPE_CHECKING:
    from mercato.server.doctor.examination import Examination

_PROXY_RULE = "Give the proxy a rule that passes /.well-known/* on to the server, beside that for the endpoint."


async def check_resource(examination: Examination) -> list[Finding]:
    """Fetch the document from every place where clients look, and check the first that is one."""
    named = examination.challenge.get("resource_metadata", "")
    foreign = _foreign(named, examination.url)
    places = resource_places(examination.url)
    first = [named] if named and not foreign else []
    answers = [await examination.wire.get(place) for place in dict.fromkeys([*first, *places])]
    documents = [answer.document for answer in answers if answer.status == 200 and answer.document is not None]
    found = [*foreign, *_places(answers, needed=first or places[:1], found_any=bool(documents))]
    if documents:
        examination.resource = documents[0]
        found += [*_same(documents), *judge_resource(documents[0], examination.url)]
        examination.issuer = issuer_of(documents[0])
    return found


def _foreign(named: str, url: str) -> list[Finding]:
    """The challenge must point to the host that was typed: behind a proxy a server may know only another."""
    if not named or origin_of(named) == origin_of(url):
        return []
    expected = origin_of(url) + named.removeprefix(origin_of(named))
    how, mend = difference(named, expected)
    return [fault(f"the challenge's resource_metadata ({without_query(named)}) {how}", mend)]


def _places(answers: list[Answer], *, needed: list[str], found_any: bool) -> list[Finding]:
    if not found_any and all(answer.failure is None and not answer.location for answer in answers):
        trouble = next((one for one in map(refused, answers) if one is not None), None)
        kind = "a web page (HTML)" if any(answer.is_html for answer in answers) else str(answers[0].status)
        message = f"/.well-known is not served: {without_query(answers[0].url)} answers {kind}, not a JSON document"
        return [trouble or fault(message, _PROXY_RULE)]
    return list(dict.fromkeys(one for answer in answers for one in _place(answer, answer.url in needed)))


def _place(answer: Answer, needed: bool) -> list[Finding]:
    missing = unanswered(answer)
    if missing is not None:
        return [missing]
    if answer.location:
        return [redirected(answer)]
    if answer.status == 200 and answer.document is not None:
        return [ok(f"{without_query(answer.url)} is a JSON document"), *slow(answer)]
    trouble = refused(answer)
    if trouble is not None:
        return [trouble]
    kind = "a web page (HTML)" if answer.is_html else str(answer.status)
    message = f"{without_query(answer.url)} answers {kind}, not a JSON document"
    if needed:
        return [fault(message, _PROXY_RULE)]
    return [warning(message, "Serve the same document here too: some clients look here first.")]


def _same(documents: list[dict[str, Any]]) -> list[Finding]:
    if all(document == documents[0] for document in documents):
        return []
    mend = "Serve the same document in every place: clients differ in where they look."
    return [warning("the places hold different documents", mend)]


def judge_resource(document: dict[str, Any], url: str) -> list[Finding]:
    """Check the document against the address that was typed."""
    return [*_judge_name(document, url), *_judge_servers(document, url), *_judge_scopes(document)]


def _judge_name(document: dict[str, Any], url: str) -> list[Finding]:
    said = document.get("resource")
    if not isinstance(said, str):
        return [fault("resource is missing", f"Name the address itself: {url}.")]
    if said == url:
        return [ok("resource is the address as typed")]
    how, mend = difference(said, url)
    return [fault(f"resource ({without_query(said)}) {how}; typed was {without_query(url)}", mend)]


def _judge_servers(document: dict[str, Any], url: str) -> list[Finding]:
    listed = document.get("authorization_servers")
    issuer = issuer_of(document)
    if not isinstance(listed, list) or not issuer:
        mend = "Name the issuer of the authorization server in authorization_servers."
        return [fault("authorization_servers names none: clients cannot find where to sign in", mend)]
    if not is_safe(issuer):
        mend = f"{SET_PUBLIC_URL}: {origin_of(url)}. The proxy ends TLS, and the server takes its own address for http."
        return [fault(f"the authorization server {without_query(issuer)} is http", mend)]
    if len(listed) > 1:
        return [warning("authorization_servers names several", "Put the right one first: Claude uses only that.")]
    return [ok(f"authorization server: {without_query(issuer)}")]


def _judge_scopes(document: dict[str, Any]) -> list[Finding]:
    scopes = document.get("scopes_supported")
    if isinstance(scopes, list) and "offline_access" in scopes:
        mend = "Leave it out here, and say it in the authorization server's scopes_supported only."
        return [fault("scopes_supported of the resource holds offline_access", mend)]
    return []


def issuer_of(document: dict[str, Any]) -> str:
    """Return the first authorization server, the one that clients use; empty where there is none."""
    listed = document.get("authorization_servers")
    first = listed[0] if isinstance(listed, list) and listed else ""
    return first if isinstance(first, str) and origin_of(first) else ""
