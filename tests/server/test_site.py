from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mercato.server.site import MCP_PATH, Site, reach_of

PUBLIC = "https://mcp.shop.example"
CATEGORIES = ("commerce", "content", "probe")
local = Site(None, "127.0.0.1", 8765)
public = Site(PUBLIC, "127.0.0.1", 8765)

ISSUERS = [
    (None, "127.0.0.1", 8765, "http://127.0.0.1:8765"),
    (None, "0.0.0.0", 8765, "http://127.0.0.1:8765"),
    (None, "::", 8765, "http://127.0.0.1:8765"),
    (None, "localhost", 80, "http://127.0.0.1"),
    (None, "10.1.2.3", 8765, "http://10.1.2.3:8765"),
    (None, "fd00::1", 8765, "http://[fd00::1]:8765"),
    (PUBLIC, "0.0.0.0", 8765, PUBLIC),
    ("http://localhost:9000", "0.0.0.0", 8765, "http://localhost:9000"),
]


@pytest.mark.parametrize(("public_url", "host", "port", "issuer"), ISSUERS)
def test_the_issuer_is_what_the_settings_say(public_url, host, port, issuer):
    assert Site(public_url, host, port).issuer == issuer


def test_only_https_is_secure():
    assert public.secure
    assert not local.secure


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "[::1]", "LocalHost"])
def test_on_this_computer_every_name_of_it_is_ours(name):
    base = f"http://{name.lower()}:8765"
    assert local.base(f"{name}:8765") == base
    assert local.is_own_origin(base)
    assert local.canonical(f"http://{name}:8765/mcp/") == f"{base}/mcp"
    assert local.covers(f"{base}/mcp", "/mcp")


def test_with_a_public_address_no_host_decides_and_no_name_of_this_computer_is_ours():
    for host in ("127.0.0.1:8765", "localhost:8765", "evil.example", "", "mcp.shop.example:8765"):
        assert public.base(host) == PUBLIC
    assert public.path_of("http://127.0.0.1:8765/mcp") is None
    assert not public.is_own_origin("http://127.0.0.1:8765")
    assert public.is_own_origin(PUBLIC.upper())


@given(st.text(max_size=60))
def test_a_host_that_is_none_of_ours_never_decides(host):
    assert public.base(host) == PUBLIC
    ours = {f"http://{name}:8765" for name in ("localhost", "127.0.0.1", "[::1]")}
    assert local.base(host) in ours


FOREIGN = [
    "https://elsewhere.example/mcp",
    "http://mcp.shop.example/mcp",
    "https://mcp.shop.example:8443/mcp",
    "https://mcp.shop.example.evil.example/mcp",
    "https://user@mcp.shop.example/mcp",
    "https://@mcp.shop.example/mcp",
    "https://mcp.shop.example@evil.example/mcp",
    "https://mcp.shop.example/mcp?a=b",
    "https://mcp.shop.example/mcp#a",
    "https://mcp.shop.example/",
    "https://mcp.shop.example/mcpx",
    "https://mcp.shop.example/x/mcp",
    "https://mcp.shop.example:x/mcp",
    "https://[/mcp",
    "//mcp.shop.example/mcp",
    "/mcp",
    "mcp",
    "",
]


@pytest.mark.parametrize("resource", FOREIGN)
def test_what_is_no_resource_of_ours_has_no_path_and_covers_nothing(resource):
    assert public.path_of(resource) is None
    assert public.canonical(resource) is None
    assert not public.covers(resource, MCP_PATH)


def test_the_default_port_may_be_written():
    assert public.path_of("https://mcp.shop.example:443/mcp") == "/mcp"
    assert Site(None, "127.0.0.1", 80).path_of("http://localhost/mcp") == "/mcp"


COVERS = [
    ("/mcp", "/mcp", True),
    ("/mcp", "/mcp/readonly", True),
    ("/mcp", "/mcpx", False),
    ("/mcp/readonly", "/mcp", False),
    ("/mcp/readonly", "/mcp/readonly/x/probe", True),
    ("/mcp/x/probe", "/mcp/x/probe", True),
    ("/mcp/x/probe", "/mcp/x/probes", False),
    ("/mcp/x/probe", "/mcp/x/probe,commerce", False),
    ("/mcp/x/probe", "/mcp/readonly", False),
]


@pytest.mark.parametrize(("audience", "path", "good"), COVERS)
def test_a_token_serves_where_it_is_for_and_below(audience, path, good):
    assert public.covers(f"{PUBLIC}{audience}", path) is good


segments = st.lists(
    st.sampled_from(["readonly", "x", "probe", "commerce", "probe,commerce", "", "..", "."]), max_size=5
)


@given(segments, segments)
def test_what_a_token_serves_reaches_never_further_than_where_it_is_for(audience, path):
    one, other = ("/".join([MCP_PATH, *parts]).rstrip("/") for parts in (audience, path))
    wide, narrow = reach_of(one, CATEGORIES), reach_of(other, CATEGORIES)
    if not public.covers(f"{PUBLIC}{one}", other) or wide is None or narrow is None:
        return
    assert narrow.read_only or not wide.read_only
    assert all(wide.holds(category) for category in CATEGORIES if narrow.holds(category))


REACHES = [
    ("/mcp", False, None),
    ("/mcp/readonly", True, None),
    ("/mcp/x/probe", False, {"probe"}),
    ("/mcp/x/probe,content", False, {"probe", "content"}),
    ("/mcp/readonly/x/probe", True, {"probe"}),
    ("/mcp/x/probe/readonly", True, {"probe"}),
]


@pytest.mark.parametrize(("path", "read_only", "categories"), REACHES)
def test_an_address_says_what_it_is_for(path, read_only, categories):
    reach = reach_of(path, CATEGORIES)
    assert (reach.read_only, reach.categories) == (read_only, categories)


NOWHERE = [
    "/mcp/x",
    "/mcp/x/",
    "/mcp/x/nothing",
    "/mcp/x/probe,nothing",
    "/mcp/x/probe,",
    "/mcp/x/,",
    "/mcp/x/PROBE",
    "/mcp/readonly/readonly",
    "/mcp/x/probe/x/content",
    "/mcp/probe",
    "/mcp/../keys",
    "/mcp/readonlyx",
]


@pytest.mark.parametrize("path", NOWHERE)
def test_what_is_no_address_is_for_nothing(path):
    assert reach_of(path, CATEGORIES) is None


@given(st.text(string.ascii_lowercase + "/,.%x", max_size=40))
def test_an_address_never_reaches_a_category_that_is_not_there(rest):
    reach = reach_of(f"/mcp/{rest}", CATEGORIES)
    assert reach is None or reach.categories is None or reach.categories <= set(CATEGORIES)
    if reach is not None and "x" in rest.split("/"):
        assert reach.categories
