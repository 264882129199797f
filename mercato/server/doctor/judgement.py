"""Judgement: what is wrong with an answer whatever was asked: none, too slow, a redirect, a page, an error."""

from __future__ import annotations

from mercato.server.doctor.address import SET_PUBLIC_URL, host_of, without_query
from mercato.server.doctor.finding import Finding, fault, warning
from mercato.server.doctor.wire import BUDGET_S, SLOW_S, Answer

_FAILURES = {
    "timeout": (
        f"no answer within {BUDGET_S:.0f} s",
        "Clients give up then. See what the server or the proxy waits for; keep one instance awake.",
    ),
    "certificate": (
        "the TLS certificate is not trusted",
        "Use a certificate of a public authority, with its whole chain, for this host name.",
    ),
    "connection": (
        "nothing answers there",
        "Start the server, and let the proxy and the firewall pass this host and port.",
    ),
    "answer": ("what answers there does not speak HTTP rightly", "See whether host, port and http/https are right."),
}


def unanswered(answer: Answer) -> Finding | None:
    """Return the fault of an answer that never came; None where one did."""
    if answer.failure is None:
        return None
    message, mend = _FAILURES[answer.failure]
    return fault(f"{without_query(answer.url)}: {message}", mend)


def slow(answer: Answer) -> list[Finding]:
    """Return a warning about an answer that takes half of a client's patience."""
    if answer.seconds <= SLOW_S:
        return []
    message = f"{without_query(answer.url)} took {answer.seconds:.1f} s; clients give up at {BUDGET_S:.0f} s"
    return [warning(message, "See what the server waits for; keep one instance awake.")]


def redirected(answer: Answer) -> Finding:
    """Return the fault of an answer that sends the client elsewhere."""
    here, there = answer.url, answer.location
    message = f"{answer.status} from {without_query(here)} to {without_query(there)}"
    if host_of(here) != host_of(there):
        mend = f"Clients do not follow across hosts: type the other address, or stop the redirect. {SET_PUBLIC_URL}."
        return fault(f"{message}: a redirect across hosts", mend)
    if there.rstrip("/") == here.rstrip("/"):
        mend = "Answer under the address itself: turn the slash redirect of the framework or the proxy off."
        return fault(f"{message}: a redirect to a trailing slash" if there.endswith("/") else message, mend)
    if here.startswith("http://") and there.startswith("https://"):
        return fault(f"{message}: a redirect from http to https", "Type the address with https.")
    mend = "Answer here and not elsewhere: clients send no credentials after a redirect. Exempt this path from it."
    return fault(f"{message}: a redirect", mend)


def refused(answer: Answer) -> Finding | None:
    """Return the fault of an answer that comes from something in front of the server, or from a server in trouble."""
    where = without_query(answer.url)
    if answer.status == 403 and answer.is_html:
        mend = "Let a firewall or bot filter pass this path; Claude comes from 160.79.104.0/21."
        return fault(f"{where}: 403 with a web page: a firewall (WAF) refuses clients", mend)
    if answer.status == 421:
        mend = f"{SET_PUBLIC_URL}, or name the host in MERCATO_ALLOWED_HOSTS; let the proxy pass the Host header on."
        return fault(f"{where}: 421: the server is not known under this Host", mend)
    if answer.status in {502, 503, 504, 521, 522, 523, 530}:
        mend = "Start the server; give the proxy its right address and port."
        return fault(f"{where}: {answer.status}: what is in front cannot reach the server", mend)
    if answer.status >= 500:
        return fault(f"{where}: {answer.status}: the server failed", "Read its log.")
    if answer.status == 429:
        mend = "Do not limit by address alone: all of Claude's users come from a few."
        return fault(f"{where}: 429: too many requests", mend)
    return None
