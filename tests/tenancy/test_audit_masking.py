from __future__ import annotations

import pytest

from mercato.tenancy.audit import MASK, masked

MASKED = [
    ({"password": "hunter2"}, {"password": MASK}),
    ({"client_secret": "x"}, {"client_secret": MASK}),
    ({"accessToken": "x"}, {"accessToken": MASK}),
    ({"API_KEY": "x", "apikey": "y"}, {"API_KEY": MASK, "apikey": MASK}),
    ({"Authorization": "Bearer x"}, {"Authorization": MASK}),
    ({"credentials": {"a": 1}}, {"credentials": MASK}),
    ({"Cookie": ["a", "b"]}, {"Cookie": MASK}),
    ({"token": None}, {"token": None}),
    ({"nested": [{"password": "x", "name": "n"}]}, {"nested": [{"password": MASK, "name": "n"}]}),
    ({"note": "my key is mck_abc-DEF_1 ok"}, {"note": f"my key is {MASK} ok"}),
    ({"note": "shpat_0123456789abcdef"}, {"note": MASK}),
    ({"note": "send Bearer abc.def-g now"}, {"note": f"send {MASK} now"}),
    ({"count": 3, "rate": 1.5, "on": True}, {"count": 3, "rate": 1.5, "on": True}),
    (("a", "mck_secretsecret"), ["a", MASK]),
    ({7: "seven"}, {"7": "seven"}),
]


@pytest.mark.parametrize(("value", "expected"), MASKED)
def test_secrets_are_masked_and_all_else_is_kept(value, expected):
    assert masked(value) == expected


def test_long_texts_are_cut():
    assert masked({"note": "x" * 5_000})["note"] == "x" * 2_000


def test_the_value_given_is_not_changed():
    value = {"password": "hunter2"}
    masked(value)
    assert value == {"password": "hunter2"}
