"""One way of breaking a server in each row: the doctor names it, and says how it is mended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.server.doctor.examining import findings_about, worse
from tests.server.doctor.fake import FakeServer

HTML = {"content-type": "text/html; charset=utf-8"}


def proxy(path: str, status: int, *, text: str = "", prefix: bool = False, **headers: str) -> Callable[..., Any]:
    """Return a proxy that answers one path itself, or all that begin with it."""

    def answer(request: httpx.Request) -> httpx.Response | None:
        here = request.url.path
        if here != path and not (prefix and here.startswith(path)):
            return None
        return httpx.Response(status, headers={**headers, **(HTML if text else {})}, text=text)

    return answer


def only_below(request: httpx.Request) -> httpx.Response | None:
    """A proxy with a rule for `/mcp/*`, which misses `/mcp`."""
    if request.url.path == "/mcp":
        return httpx.Response(404)
    return httpx.Response(401) if request.url.path == "/mcp/" else None


def only_the_endpoint(request: httpx.Request) -> httpx.Response | None:
    """A proxy with a rule for `/mcp` and nothing else."""
    return None if request.url.path == "/mcp" else httpx.Response(404)


def never(request: httpx.Request) -> httpx.Response | None:
    raise httpx.ReadTimeout("late", request=request)


def closed(request: httpx.Request) -> httpx.Response | None:
    raise httpx.ConnectError("refused", request=request)


def untrusted(request: httpx.Request) -> httpx.Response | None:
    raise httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed", request=request)


INSIDE = "http://10.0.0.7:8765"
PLAIN = "http://mcp.example"
PUBLIC = "MERCATO_PUBLIC_URL"
ELSEWHERE = {"location": "https://www.example/mcp"}
SLASH = {"location": "/mcp/"}
NO_CIMD = {"client_id_metadata_document_supported": None}
BOTH_PLAIN = {"public_url": PLAIN, "issuer": PLAIN}
BOTH_INSIDE = {"public_url": INSIDE, "issuer": INSIDE}

FAULTS: dict[str, tuple[dict[str, Any], str, str, str]] = {
    # name: what is broken, the step that says so, words of its message, words of its mend
    "wrong public URL": (BOTH_INSIDE, "resource", "resource (http://10.0.0.7:8765/mcp) names another host", PUBLIC),
    "wrong public URL in the challenge": (BOTH_INSIDE, "resource", "resource_metadata (http://10.0.0.7", PUBLIC),
    "http behind a TLS proxy": (BOTH_PLAIN, "resource", "says http instead of https", "The proxy ends TLS"),
    "http issuer": (BOTH_PLAIN, "resource", "authorization server http://mcp.example is http", PUBLIC),
    "slash in resource": (
        {"resource_document": {"resource": "https://mcp.example/mcp/"}},
        "resource",
        "has a trailing slash",
        "without the slash",
    ),
    "other path in resource": (
        {"resource_document": {"resource": "https://mcp.example/api/mcp"}},
        "resource",
        "names another path",
        "https://mcp.example/api/mcp",
    ),
    "no resource": ({"resource_document": {"resource": None}}, "resource", "resource is missing", "Name the address"),
    "no authorization server": (
        {"resource_document": {"authorization_servers": []}},
        "resource",
        "authorization_servers names none",
        "issuer",
    ),
    "offline_access in the resource's document": (
        {"resource_document": {"scopes_supported": ["tools:read", "offline_access"]}},
        "resource",
        "offline_access",
        "authorization server's scopes_supported only",
    ),
    "offline_access in the challenge": (
        {"challenge": 'Bearer resource_metadata="{place}", scope="tools:read offline_access"'},
        "challenge",
        "offline_access",
        "scopes_supported only",
    ),
    "/mcp only proxied": ({"in_front": only_the_endpoint}, "resource", "/.well-known is not served", "/.well-known/*"),
    "/.well-known is a web page": (
        {"in_front": proxy("/.well-known", 404, text="<html>", prefix=True)},
        "resource",
        "a web page (HTML)",
        "/.well-known/*",
    ),
    "/.well-known is redirected": (
        {"in_front": proxy("/.well-known", 302, prefix=True, location="https://www.example/")},
        "resource",
        "redirect across hosts",
        "do not follow",
    ),
    "/mcp not proxied": (
        {"in_front": proxy("/mcp", 404)},
        "challenge",
        "does not pass it on",
        "rule for this path",
    ),
    "only /mcp/* proxied": ({"in_front": only_below}, "challenge", "only under `https://mcp.example/mcp/`", "without"),
    "nothing there": ({"in_front": proxy("/", 404, prefix=True)}, "challenge", "404", "Type the address"),
    "across hosts": ({"in_front": proxy("/mcp", 301, **ELSEWHERE)}, "challenge", "across hosts", "do not follow"),
    "to a slash": ({"in_front": proxy("/mcp", 307, **SLASH)}, "challenge", "to a trailing slash", "slash redirect"),
    "to a sign-in": ({"in_front": proxy("/mcp", 302, location="/login")}, "challenge", "302", "Answer here"),
    "a firewall": ({"in_front": proxy("/mcp", 403, text="<html>")}, "challenge", "firewall", "160.79.104.0/21"),
    "421": ({"in_front": proxy("/mcp", 421)}, "challenge", "421", "MERCATO_ALLOWED_HOSTS"),
    "502": ({"in_front": proxy("/mcp", 502, text="<html>")}, "challenge", "cannot reach the server", "proxy"),
    "500": ({"in_front": proxy("/mcp", 500)}, "challenge", "the server failed", "log"),
    "429": ({"in_front": proxy("/mcp", 429)}, "challenge", "too many requests", "by address alone"),
    "a web page": ({"in_front": proxy("/mcp", 200, text="<html>")}, "challenge", "HTML", "address of the endpoint"),
    "no answer in time": ({"in_front": never}, "challenge", "no answer within 10 s", "give up"),
    "nothing listens": ({"in_front": closed}, "challenge", "nothing answers there", "Start the server"),
    "bad certificate": ({"in_front": untrusted}, "challenge", "certificate is not trusted", "public authority"),
    "no credentials asked": ({"needs_credentials": False}, "challenge", "200 without credentials", "Answer 401"),
    "no challenge": ({"challenge": ""}, "challenge", "without WWW-Authenticate", "resource_metadata"),
    "a proxy's password": ({"challenge": 'Basic realm="x"'}, "challenge", "another challenge", "WWW-Authenticate"),
    "no resource_metadata": ({"challenge": 'Bearer realm="x"'}, "challenge", "without resource_metadata", "Answer 401"),
    "slash at the issuer": (
        {"server_document": {"issuer": "https://mcp.example/"}},
        "authorization server",
        "it has a trailing slash",
        "letter by letter",
    ),
    "other issuer": (
        {"server_document": {"issuer": "https://other.example"}},
        "authorization server",
        "it names another host",
        PUBLIC,
    ),
    "http endpoints": (
        {"server_document": {"token_endpoint": "http://mcp.example/token"}},
        "authorization server",
        "token_endpoint (http://mcp.example/token) is http",
        "The proxy ends TLS",
    ),
    "endpoint on loopback": (
        {"server_document": {"token_endpoint": "http://127.0.0.1:8765/token"}},
        "authorization server",
        "another host than the issuer",
        PUBLIC,
    ),
    "no token endpoint": (
        {"server_document": {"token_endpoint": None}},
        "authorization server",
        "token_endpoint is missing",
        "do not guess",
    ),
    "no S256": (
        {"server_document": {"code_challenge_methods_supported": None}},
        "authorization server",
        "lacks S256",
        "must refuse",
    ),
    "no none": (
        {"server_document": {"token_endpoint_auth_methods_supported": ["client_secret_post"]}},
        "authorization server",
        "lacks none",
        "Claude",
    ),
    "no way to become a client": (
        {"server_document": {**NO_CIMD, "registration_endpoint": None}},
        "authorization server",
        "neither",
        "CIMD",
    ),
    "no keys": ({"in_front": proxy("/jwks", 404)}, "authorization server", "holds no keys", "public keys"),
    "client document refused": (
        {"client_document_error": "This client is unknown."},
        "client document",
        "is refused",
        "RFC 8252",
    ),
    "registration refused": ({"in_front": proxy("/register", 401)}, "registration", "refused: 401", "public clients"),
    "a secret for a public client": (
        {"registered_method": "client_secret_basic"},
        "registration",
        "got client_secret_basic",
        "cannot keep a secret",
    ),
    "no PKCE": (
        {"requires_pkce": False},
        "refusals",
        "PKCE is not enforced: a request without a code_challenge led to a page to sign in",
        "S256",
    ),
    "plain PKCE": ({"allows_plain": True}, "refusals", "code_challenge_method=plain led to a page", "S256"),
    "open redirect": ({"checks_redirects": False}, "refusals", "open redirect", "letter by letter"),
    "any resource": ({"checks_resource": False}, "refusals", "foreign resource is not refused", "invalid_target"),
    "errors without iss": ({"sends_iss": False}, "refusals", "without iss", "iss=https://mcp.example"),
    "no iss": ({"sends_iss": False}, "sign in", "without iss", "RFC 9207"),
    "no state": ({"sends_state": False}, "sign in", "another state", "Send `state` back"),
    "no refresh token": ({"token_answer": {"refresh_token": None}}, "token", "no refresh_token", "offline_access"),
    "other token type": ({"token_answer": {"token_type": "mac"}}, "token", "not Bearer", "Bearer"),
    "token endpoint is a page": (
        {"in_front": proxy("/token", 400, text="<html>")},
        "token",
        "answers 400 without JSON",
        "CSRF",
    ),
    "codes work twice": ({"codes_work_twice": True}, "replays", "a code can be used twice", "atomically"),
}

WARNINGS: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "no grace": ({"grace": False}, "replays", "no grace", "120 s"),
    "iss not said": (
        {"server_document": {"authorization_response_iss_parameter_supported": None}, "sends_iss": False},
        "authorization server",
        "authorization_response_iss_parameter_supported is not said",
        "ChatGPT",
    ),
    "no client documents": ({"server_document": NO_CIMD}, "authorization server", "no client documents", "registers"),
    "no registration": (
        {"server_document": {"registration_endpoint": None}},
        "authorization server",
        "no registration",
        "Cursor",
    ),
    "no offline_access": (
        {"server_document": {"scopes_supported": ["tools:read"]}},
        "authorization server",
        "lacks offline_access",
        "refresh tokens without it",
    ),
    "the server cannot fetch": (
        {"client_document_error": "The client document could not be fetched."},
        "client document",
        "could not fetch",
        "egress",
    ),
    "no document at the root": (
        {"in_front": proxy("/.well-known/oauth-protected-resource", 404)},
        "resource",
        "answers 404",
        "look here first",
    ),
    "endpoint elsewhere": (
        {"server_document": {"jwks_uri": "https://keys.example/jwks"}},
        "authorization server",
        "jwks_uri (https://keys.example/jwks) is on another host",
        "unless this is meant",
    ),
    "scope not said": ({"token_answer": {"scope": None}}, "token", "scope is not said", "granted"),
    "no tools": ({"tools": []}, "calls", "empty", "categories"),
}


@pytest.mark.parametrize("name", FAULTS)
async def test_a_fault_is_named_with_its_mend(name: str):
    changes, step, message, mend = FAULTS[name]
    await _expect("fault", changes, step, message, mend)


@pytest.mark.parametrize("name", WARNINGS)
async def test_what_troubles_only_some_clients_is_a_warning_and_no_fault(name: str):
    changes, step, message, mend = WARNINGS[name]
    findings = await _expect("warning", changes, step, message, mend)
    assert not [one for one in findings if one.startswith("fault")]


async def _expect(status: str, changes: dict[str, Any], step: str, message: str, mend: str) -> list[str]:
    found = worse(await findings_about(FakeServer(**changes)))
    named = [line for line in found if line.startswith(f"{status} {step}: ") and message in line]
    assert named, found
    assert [line for line in named if mend in line.partition(" -> ")[2]], named
    assert all(line.partition(" -> ")[2] for line in found), "whatever is not well has a mend"
    return found


@pytest.mark.parametrize(("seconds", "status"), [(6.0, "warning"), (11.0, "fault")])
async def test_a_slow_answer_is_a_warning_and_one_that_comes_too_late_a_fault(seconds: float, status: str):
    server = FakeServer()

    def late(request: httpx.Request) -> None:
        if request.url.path == "/mcp":
            server.clock.now += seconds

    server.in_front = late
    found = worse(await findings_about(server, sign_in=None))
    assert [line for line in found if line.startswith(f"{status} challenge: https://mcp.example/mcp")], found


async def test_a_cause_is_said_once_though_both_eras_meet_it():
    found = worse(await findings_about(FakeServer(in_front=proxy("/mcp", 421))))
    assert len([line for line in found if line.startswith("fault challenge")]) == 1


async def test_what_needs_a_token_is_left_out_where_there_is_none():
    findings = await findings_about(FakeServer(in_front=proxy("/token", 500)))
    assert findings[-1].step == "token"
    assert findings[-1].message == "https://mcp.example/token: 500: the server failed"


async def test_where_nothing_answers_no_more_is_asked():
    findings = await findings_about(FakeServer(in_front=closed))
    assert [one.status for one in findings if one.step != "url"] == ["fault"]
