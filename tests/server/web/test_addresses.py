"""Where a request comes from: the nearest address that is none of our proxies, one for each subscriber."""

from __future__ import annotations

import ipaddress

import pytest
from starlette.requests import Request

from mercato.server.web.addresses import client_address

OURS = (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8"))


def request(direct, *forwarded):
    headers = [(b"x-forwarded-for", line.encode()) for line in forwarded]
    return Request({"type": "http", "client": (direct, 1), "headers": headers})


@pytest.mark.parametrize(
    ("direct", "forwarded", "address"),
    [
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["1.1.1.1, 198.51.100.1, 10.2.3.4"], "198.51.100.1"),
        ("10.0.0.1", ["1.1.1.1", "198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["198.51.100.1:54321"], "198.51.100.1"),
        ("10.0.0.1", ["[2001:db8::1]:443"], "2001:db8::/64"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["10.0.0.2"], "10.0.0.1"),
        ("10.0.0.1", ["nonsense"], "nonsense"),
        ("::ffff:10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("::ffff:203.0.113.9", [], "203.0.113.9"),
        ("2001:db8:0:1::5", [], "2001:db8:0:1::/64"),
        ("fe80::1%eth0", [], "fe80::/64"),
    ],
)
def test_the_address_is_the_nearest_that_is_none_of_ours(direct, forwarded, address):
    assert client_address(request(direct, *forwarded), OURS) == address


def test_without_proxies_of_ours_nobody_is_believed():
    assert client_address(request("203.0.113.9", "198.51.100.1"), ()) == "203.0.113.9"


def test_what_stands_for_nobody_is_bounded():
    assert len(client_address(request("10.0.0.1", "x" * 5_000), OURS)) <= 64
