"""The challenge: a request without credentials is answered 401, and says where to go on."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mercato.server.doctor.address import host_of, resource_places
from mercato.server.doctor.finding import Finding, fault, ok
from mercato.server.doctor.judgement import redirected, refused, slow, unanswered
from mercato.server.doctor.messages import HANDSHAKE, MODERN, Line
from mercato.server.doctor.wire import Answer

if TYPE_CHECKING:
    from mercato.server.doctor.examination import Examination

_SCHEME = re.compile(r"(?:^|,)\s*bearer(?:\s+|\s*$|\s*,)", re.IGNORECASE)
_PARAMETER = re.compile(r'([\w-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')

_SAY_CHALLENGE = 'Answer 401 with `WWW-Authenticate: Bearer resource_metadata="…"`, and let the proxy pass it on.'


async def check_challenge(examination: Examination) -> list[Finding]:
    """Send each era's first request without credentials. What is wrong with both is said once."""
    found: list[Finding] = []
    wire, url = examination.wire, examination.url
    answers = [await Line(wire, url, era).hello() for era in (MODERN, HANDSHAKE)]
    examination.reachable = any(answer.failure not in {"connection", "certificate"} for answer in answers)
    for answer in answers:
        found += judge(answer)
        examination.challenge = examination.challenge or parse_challenge(answer)
        if answer.status == 404:
            found.append(await _not_found(examination))
    return list(dict.fromkeys(found))


def judge(answer: Answer) -> list[Finding]:
    """Say what a client makes of an answer to a request without credentials."""
    missing = unanswered(answer)
    if missing is not None:
        return [missing]
    return [*_judge_status(answer), *slow(answer)]


def _judge_status(answer: Answer) -> list[Finding]:
    if answer.location:
        return [redirected(answer)]
    if answer.status == 404:
        return []  # said by `_not_found`, which looks around first
    if answer.status == 401:
        return _judge_header(answer)
    trouble = refused(answer)
    if trouble is not None:
        return [trouble]
    if answer.status < 300:
        return [_let_in(answer)]
    message = f"{answer.status} where credentials are missing: clients begin to sign in at 401 only"
    return [fault(message, f"Look at credentials before anything else. {_SAY_CHALLENGE}")]


def _judge_header(answer: Answer) -> list[Finding]:
    header = answer.headers.get("www-authenticate", "")
    if not _SCHEME.search(header):
        message = "401 with another challenge than Bearer: something in front asks for a password of its own"
        return [fault(message if header else "401 without WWW-Authenticate", _SAY_CHALLENGE)]
    parameters = parse_challenge(answer)
    if not parameters.get("resource_metadata"):
        return [fault("401 without resource_metadata: clients cannot find where to sign in", _SAY_CHALLENGE)]
    if "offline_access" in parameters.get("scope", "").split():
        mend = "Say it in the authorization server's scopes_supported only."
        return [fault("the challenge's scope holds offline_access", mend)]
    return [ok("401 with resource_metadata")]


def _let_in(answer: Answer) -> Finding:
    if answer.is_html:
        mend = "Type the address of the endpoint, as a rule with /mcp, or let the proxy pass POST on to the server."
        return fault(f"{answer.status} with a web page (HTML) instead of JSON: this is no MCP endpoint", mend)
    message = f"{answer.status} without credentials: whoever knows the address is let in"
    return fault(message, f"Ask for credentials. {_SAY_CHALLENGE}")


async def _not_found(examination: Examination) -> Finding:
    """Look around, to say what the proxy passes on and what not."""
    url = examination.url
    message = f"404: nothing is served under this path on {host_of(url)}"
    if not url.endswith("/"):
        below = await Line(examination.wire, f"{url}/", MODERN).hello()
        if below.status in {200, 401}:
            mend = "Give the proxy a rule for the path itself, without the slash and the star, beside that for `/*`."
            return fault(f"{message}, only under `{url}/`", mend)
    for place in resource_places(url):
        if (await examination.wire.get(place)).document is not None:
            mend = "Give the proxy a rule for this path too, or type the path that the server serves."
            return fault(f"{message}: the proxy does not pass it on, though it passes /.well-known", mend)
    return fault(message, "Type the address of the endpoint, as a rule with /mcp; give the proxy a rule for it.")


def parse_challenge(answer: Answer) -> dict[str, str]:
    """Return the parameters of a Bearer challenge; none where there is no such challenge."""
    header = answer.headers.get("www-authenticate", "") if answer.status in {401, 403} else ""
    scheme = _SCHEME.search(header)
    if scheme is None:
        return {}
    return {
        name.lower(): re.sub(r"\\(.)", r"\1", quoted) or plain
        for name, quoted, plain in _PARAMETER.findall(header[scheme.end() :])
    }
