"""How clients prove who they are, and what happens to those that do not."""

from __future__ import annotations

import base64
import secrets
import time
from urllib.parse import quote_plus

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, RSAKey

from mercato.server.oauth.client_authentication import ASSERTION_TYPE
from mercato.tenancy.clients import ClientKind, add_client
from mercato.tenancy.clients import OAuthClient as Row
from mercato.tenancy.signing import digest
from tests.server.oauth.flow import OAuthClient, assert_refused, public_client, register

CALLBACK = "https://client.example/callback"


@pytest.fixture(scope="module")
async def confidential(site):
    """A client with a secret, as the operator makes it."""
    client_id, secret = f"static {secrets.token_hex(4)}:ä", "s:e%c+r é"
    await add_client(
        site.runtime.database,
        Row(
            client_id=client_id,
            kind=ClientKind.STATIC,
            name="Ours",
            redirect_uris=[CALLBACK],
            auth_method="client_secret_basic",
            secret_digest=digest(secret),
        ),
    )
    return OAuthClient(site.url, client_id, CALLBACK, extra={"client_secret": secret})


@pytest.fixture(scope="module")
def key():
    return ECKey.generate_key("P-256", parameters={"kid": "one"})


@pytest.fixture(scope="module")
async def signing(site, key):
    """A client that signs."""
    jwks = {"keys": [key.as_dict(private=False)]}
    given = await register(site.url, redirect_uris=[CALLBACK], token_endpoint_auth_method="private_key_jwt", jwks=jwks)
    return OAuthClient(site.url, given["client_id"], CALLBACK)


async def reached(client, **given):
    """Ask for tokens with a code that nobody knows: who is authenticated learns that, anybody else does not."""
    form = {"grant_type": "authorization_code", "code": "unknown", "code_verifier": "v" * 43, **given}
    return await client.token(**form)


def assert_authenticated(response):
    assert_refused(response, "invalid_grant")


def basic(client_id, secret):
    return base64.b64encode(f"{quote_plus(client_id)}:{quote_plus(secret)}".encode()).decode()


async def with_header(client, header, **given):
    form = {"grant_type": "authorization_code", "code": "unknown", "code_verifier": "v" * 43, **given}
    async with httpx.AsyncClient(base_url=client.site_url, verify=False) as http:
        return await http.post("/token", data=form, headers={"authorization": header, "accept": "text/html"})


async def test_a_secret_is_taken_in_the_form_or_in_the_header(confidential):
    assert_authenticated(await reached(confidential))
    good = basic(confidential.client_id, confidential.extra["client_secret"])
    assert_authenticated(await with_header(confidential, f"Basic {good}"))
    assert_authenticated(await with_header(confidential, f"basic {good}", client_id=confidential.client_id))


async def test_a_wrong_secret_is_401_and_the_scheme_is_named_only_to_who_used_it(confidential):
    for wrong in ("wrong", "", confidential.extra["client_secret"] + " "):
        in_form = await reached(confidential, client_secret=wrong)
        in_header = await with_header(confidential, f"Basic {basic(confidential.client_id, wrong)}")
        for response in (in_form, in_header):
            assert_refused(response, "invalid_client", 401)
        assert "www-authenticate" not in in_form.headers
        assert in_header.headers["www-authenticate"] == 'Basic realm="mercato"'


async def test_a_confidential_client_that_shows_nothing_is_401(confidential):
    assert_refused(await reached(confidential, client_secret=None), "invalid_client", 401)


HEADERS = ["Basic", "Basic !", "Basic YQ==", "Basic " + base64.b64encode(b"\xff:\xff").decode()]


@pytest.mark.parametrize("header", HEADERS)
async def test_a_basic_header_that_cannot_be_read_is_401(confidential, header):
    response = await with_header(confidential, header)
    assert_refused(response, "invalid_client", 401)
    assert response.headers["www-authenticate"] == 'Basic realm="mercato"'


async def test_a_client_that_nobody_knows_is_401_and_so_is_one_with_a_secret_that_it_does_not_have(site):
    public = await public_client(site.url)
    stranger = OAuthClient(site.url, "mcc_unknown", CALLBACK)
    assert_authenticated(await reached(public))
    assert_refused(await reached(stranger), "invalid_client", 401)
    assert_refused(await reached(public, client_secret="any"), "invalid_client", 401)
    assert_refused(await with_header(public, f"Basic {basic(public.client_id, 'any')}"), "invalid_client", 401)


async def test_who_says_nothing_or_two_things_is_refused(site, confidential, key, signing):
    public = await public_client(site.url)
    secret = confidential.extra["client_secret"]
    header = f"Basic {basic(confidential.client_id, secret)}"
    assert_refused(await reached(public, client_id=None), "invalid_request")
    assert_refused(await with_header(confidential, header, client_secret=secret), "invalid_request")
    assert_refused(await with_header(confidential, header, client_id=public.client_id), "invalid_request")
    both = {"client_assertion": assertion(signing, key), "client_assertion_type": ASSERTION_TYPE}
    assert_refused(await reached(signing, client_secret="any", **both), "invalid_request")
    assert_refused(await with_header(signing, header, **both), "invalid_request")


async def test_a_client_that_signs_cannot_do_without(signing):
    assert_refused(await reached(signing), "invalid_client", 401)
    assert_refused(await reached(signing, client_secret=""), "invalid_client", 401)


def assertion(client, key, header=None, **changed):
    now = int(time.time())
    given = {
        "iss": client.client_id,
        "sub": client.client_id,
        "aud": f"{client.site_url}/token",
        "iat": now,
        "exp": now + 60,
        "jti": secrets.token_hex(8),
        **changed,
    }
    claims = {name: value for name, value in given.items() if value is not None}
    algorithm = {"EC": "ES256", "RSA": "RS256", "oct": "HS256"}[key.key_type]
    headers = {"alg": algorithm, "kid": "one", **(header or {})}
    return jwt.encode(headers, claims, key, algorithms=[algorithm])


async def shown(client, text, **given):
    return await reached(client, client_assertion=text, client_assertion_type=ASSERTION_TYPE, **given)


async def test_an_assertion_authenticates_once(signing, key):
    text = assertion(signing, key)
    assert_authenticated(await shown(signing, text))
    assert_refused(await shown(signing, text), "invalid_client", 401)
    assert_authenticated(await shown(signing, assertion(signing, key), client_id=None))


async def test_an_assertion_that_was_shown_to_one_replica_is_used_up_on_every_other(replica, signing, key):
    text = assertion(signing, key)
    assert_authenticated(await shown(signing, text))
    elsewhere = OAuthClient(replica.url, signing.client_id, CALLBACK)
    assert_refused(await shown(elsewhere, text), "invalid_client", 401)


async def test_the_same_jti_of_two_clients_is_no_replay(site, key, signing):
    jwks = {"keys": [key.as_dict(private=False)]}
    given = await register(site.url, redirect_uris=[CALLBACK], token_endpoint_auth_method="private_key_jwt", jwks=jwks)
    other = OAuthClient(site.url, given["client_id"], CALLBACK)
    for client in (signing, other):
        assert_authenticated(await shown(client, assertion(client, key, jti=f"same of {key.thumbprint()}")))


@pytest.mark.parametrize("audience", ["{}", "{}/", "{}/token", ["https://elsewhere.example", "{}"]])
async def test_an_assertion_may_be_for_the_issuer_or_the_endpoint(signing, key, audience):
    filled = [one.format(signing.site_url) for one in audience] if isinstance(audience, list) else None
    text = assertion(signing, key, aud=filled or audience.format(signing.site_url))
    assert_authenticated(await shown(signing, text))


CLAIMS = {
    "another audience": {"aud": "https://elsewhere.example/token"},
    "the resource as audience": {"aud": "http://127.0.0.1/mcp"},
    "no audience": {"aud": None},
    "an audience that is no text": {"aud": 7},
    "an expired one": {"exp": int(time.time()) - 120},
    "one that never expires": {"exp": None},
    "one that expires at no time": {"exp": "soon"},
    "one that lives too long": {"exp": int(time.time()) + 7_300},
    "one that is not good yet": {"nbf": int(time.time()) + 3_000, "exp": int(time.time()) + 3_500},
    "one that was made in the future": {"iat": int(time.time()) + 3_000, "exp": int(time.time()) + 3_500},
    "no jti": {"jti": None},
    "an empty jti": {"jti": ""},
    "a jti that is no text": {"jti": 7},
    "a jti that is too long": {"jti": "j" * 501},
    "another subject": {"sub": "mcc_other"},
    "no subject": {"sub": None},
}


@pytest.mark.parametrize("why", CLAIMS)
async def test_an_assertion_that_says_something_wrong_is_401(signing, key, why):
    assert_refused(await shown(signing, assertion(signing, key, **CLAIMS[why])), "invalid_client", 401)


async def test_an_assertion_under_a_foreign_key_is_401(site, signing, key):
    public = await public_client(site.url)
    foreign = ECKey.generate_key("P-256", parameters={"kid": "one"})
    texts = [
        assertion(signing, foreign),
        assertion(signing, foreign, header={"jwk": foreign.as_dict(private=False)}),
        assertion(signing, RSAKey.generate_key(2048, parameters={"kid": "one"})),
        assertion(signing, key, header={"kid": "two"}),
        assertion(signing, OctKey.import_key(key.as_dict(private=False)["x"])),
        assertion(signing, key)[:-6] + "AAAAAA",
        assertion(signing, key).rpartition(".")[0] + ".",
        assertion(public, key),
        assertion(OAuthClient(site.url, "mcc_unknown", CALLBACK), key),
        "nonsense",
        "a.b.c",
        "..",
        "",
    ]
    for text in texts:
        response = await shown(signing, text or "x")
        assert_refused(response, "invalid_client", 401)
        assert "www-authenticate" not in response.headers


async def test_an_assertion_of_no_algorithm_is_401(signing, key):
    _, claims, _ = assertion(signing, key).split(".")
    for header in (b'{"alg":"none"}', b'{"alg":"none","kid":"one"}', b'{"alg":"HS256","kid":"one"}'):
        forged = base64.urlsafe_b64encode(header).rstrip(b"=").decode()
        assert_refused(await shown(signing, f"{forged}.{claims}."), "invalid_client", 401)


async def test_an_assertion_of_another_type_is_refused(signing, key):
    for kind in ("urn:ietf:params:oauth:client-assertion-type:saml2-bearer", None):
        response = await reached(signing, client_assertion=assertion(signing, key), client_assertion_type=kind)
        assert_refused(response, "invalid_request")


async def test_an_assertion_for_another_client_than_the_form_names_is_401(site, signing, key):
    public = await public_client(site.url)
    text = assertion(signing, key)
    assert_refused(await shown(signing, text, client_id=public.client_id), "invalid_client", 401)


BODIES = [
    ("application/json", b"{}"),
    ("text/plain", b"grant_type=authorization_code"),
    ("", b"grant_type=authorization_code"),
    ("multipart/form-data; boundary=x", b"--x--"),
    ("application/x-www-form-urlencoded", b"\xff"),
    ("application/x-www-form-urlencoded", b"a=%ff"),
    ("application/x-www-form-urlencoded", b"&".join(b"a=b" for _ in range(200))),
    ("application/x-www-form-urlencoded", b"client_id=a&client_id=b"),
    ("application/x-www-form-urlencoded", b""),
]


@pytest.mark.parametrize("path", ["/token", "/revoke", "/introspect"])
@pytest.mark.parametrize(("kind", "body"), BODIES)
async def test_what_is_no_form_is_refused_as_json_even_to_a_browser(site, path, kind, body):
    headers = {"content-type": kind, "accept": "text/html,application/xhtml+xml"}
    async with httpx.AsyncClient(base_url=site.url, verify=False) as http:
        assert_refused(await http.post(path, content=body, headers=headers), "invalid_request")


@pytest.mark.parametrize("path", ["/token", "/revoke", "/introspect", "/register"])
async def test_another_method_is_no_page(site, path):
    async with httpx.AsyncClient(base_url=site.url, headers={"accept": "text/html"}, verify=False) as http:
        for method in ("GET", "PUT", "DELETE"):
            response = await http.request(method, path)
            assert response.status_code == 405
            assert "html" not in response.headers["content-type"]


async def test_a_failure_inside_is_an_error_of_oauths_own_and_tells_nothing(site, monkeypatch):
    async def broken(*_):
        raise RuntimeError("select * from secrets")

    public = await public_client(site.url)
    monkeypatch.setattr("mercato.server.oauth.token.redeem_code", broken)
    response = await reached(public)
    assert_refused(response, "server_error", 500)
    assert "secrets" not in response.text
    assert response.headers["x-request-id"] in response.text


@pytest.mark.parametrize("path", ["/token", "/revoke", "/introspect"])
async def test_a_form_that_is_far_too_long_is_refused_as_json(site, path):
    headers = {"content-type": "application/x-www-form-urlencoded", "accept": "text/html"}
    async with httpx.AsyncClient(base_url=site.url, verify=False) as http:
        assert_refused(await http.post(path, content=b"token=" + b"x" * 70_000, headers=headers), "invalid_request")
        response = await http.post(path, content=b"token=" + b"x" * 200_000, headers=headers)
        elsewhere = await http.post(path, content=b"token=x", headers={**headers, "host": "evil.example"})
    for answer, status in ((response, 413), (elsewhere, 421)):
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json")
        assert answer.json()["error"] == "invalid_request"
