"""Which address a request may name: never one that leads to another host, path or scheme."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mercato.server.oauth.errors import OAuthError, safe
from mercato.server.oauth.redirects import find, form_action, host_of, is_local, usable
from mercato.server.web.page import local_path

HTTPS, LOOPBACK, PRIVATE = (
    "https://client.example/callback",
    "http://127.0.0.1:9123/callback?a=b",
    "cursor://x/callback",
)
REGISTERED = [HTTPS, LOOPBACK, PRIVATE, "http://localhost/callback", "http://[::1]/callback"]

PIECES = r"""http https cursor javascript : // / \ @ # ? % %2f %00 .. 127.0.0.1 localhost [::1] ::1 client.example
    evil.example :9123 :1 :x /callback a=b"""
pieces = st.sampled_from([*PIECES.split(), " ", "\t", "\n"])
soups = st.lists(pieces, max_size=9).map("".join)
twisted = st.builds(
    lambda uri, position, piece: uri[: position % (len(uri) + 1)] + piece + uri[position % (len(uri) + 1) :],
    st.sampled_from(REGISTERED),
    st.integers(0, 100),
    pieces,
)


@given(st.one_of(soups, twisted, st.text(max_size=80)))
@settings(max_examples=300)
@example("http://127.0.0.1:9123\\@evil.example/callback?a=b")
@example("http://127.0.0.1:1@evil.example/callback?a=b")
@example("http://127.0.0.1%2eevil.example/callback?a=b")
@example("http://127.0.0.1\t.evil.example/callback?a=b")
@example("http://[::1].evil.example/callback")
@example("http://[::1]0/callback")
def test_what_is_found_leads_where_the_client_lives_and_differs_in_a_port_at_most(wanted):
    found = find(REGISTERED, wanted)
    if found is None:
        return
    assert found == wanted
    if found in REGISTERED:
        return
    assert re.fullmatch(
        r"http://(127\.0\.0\.1(:\d*)?/callback\?a=b|(localhost|\[::1\])(:\d*)?/callback\??)", found, re.I
    )
    assert host_of(found) in {"127.0.0.1", "localhost", "::1"}


@given(st.integers(0, 65_535))
def test_a_port_on_this_computer_may_be_any(port):
    for registered in ("http://127.0.0.1:9123/callback", "http://localhost/callback", "http://[::1]:1/callback"):
        parts = urlsplit(registered)
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        wanted = f"http://{host}:{port}/callback"
        assert find([registered], wanted) == wanted
        assert find(["https://client.example/callback"], f"https://client.example:{port}/callback") is None
        assert find([PRIVATE], f"cursor://x:{port}/callback") is None


@given(st.one_of(soups, st.text(max_size=60)))
@settings(max_examples=300)
def test_an_address_that_a_client_may_have_runs_nothing_and_leads_to_no_strangers_http(uri):
    try:
        kept, code = usable([uri], {"cursor"}), None
    except OAuthError as refusal:
        kept, code = [], refusal.code
    if not kept:
        assert code == "invalid_redirect_uri"
        return
    assert kept == [uri]
    parts = urlsplit(uri)
    assert parts.scheme in {"https", "http", "cursor"}
    assert parts.scheme != "http" or parts.hostname in {"127.0.0.1", "localhost", "::1"}
    assert "@" not in parts.netloc
    assert uri.isascii()
    assert uri.isprintable()
    assert not set(";,'\"") & set(form_action(uri))
    host = r"(\[[0-9a-f:.]+\]|[^\[\]:@]*)(:\d*)?"
    assert re.fullmatch(host, parts.netloc, re.IGNORECASE)


@given(st.one_of(soups, st.text(max_size=60), st.builds("/{}".format, soups)))
@settings(max_examples=300)
@example("//evil.example")
@example("/\\evil.example")
@example("/\t/evil.example")
@example("/\n//evil.example")
def test_a_local_path_never_leaves_the_site(path):
    found = local_path(path, "/clients")
    assert found in {path, "/clients"}
    assert re.match(r"/(?![/\\])", found)
    assert found.isprintable()
    assert found.isascii()
    assert urlsplit(f"http://here.example{found}").netloc == "here.example"
    assert not urlsplit(found).netloc


@given(st.text(max_size=500))
def test_a_description_has_only_the_characters_that_it_may_have(text):
    found = safe(text)
    assert re.fullmatch(r"[\x20-\x21\x23-\x5b\x5d-\x7e]{0,300}", found)


@given(st.text(st.sampled_from("abc .,:()'/-"), max_size=300))
def test_a_description_that_is_plain_stays_as_it_is(text):
    assert safe(text) == text


SHOWN = [
    (HTTPS, "client.example", False, "https://client.example https:"),
    ("https://client.example:8443/a", "client.example", False, "https://client.example:8443 https:"),
    (LOOPBACK, "127.0.0.1", True, "http://127.0.0.1:9123 http://localhost:* http://127.0.0.1:* https:"),
    ("http://[::1]:1/", "::1", True, "http: https:"),
    (PRIVATE, "cursor:", True, "cursor:"),
    ("com.example.app:/callback", "com.example.app:", True, "com.example.app:"),
]


@pytest.mark.parametrize(("uri", "host", "local", "sources"), SHOWN)
def test_an_address_is_shown_and_let_through_as_what_it_is(uri, host, local, sources):
    assert (host_of(uri), is_local(uri), form_action(uri)) == (host, local, sources)
