from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mercato.tenancy.secrets import KeyRing
from mercato.tenancy.signing import Signer, digest

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
OLD, NEW = bytes(range(32)), bytes(range(1, 33))
signer = Signer(KeyRing([OLD]), "test")


@given(st.binary(max_size=200))
def test_what_was_signed_comes_back_as_it_was(payload):
    text = signer.sign(payload)
    assert signer.verify(text) == payload
    assert set(text) <= set(ALPHABET)


@given(st.binary(max_size=60), st.data())
@settings(max_examples=300)
def test_any_character_that_changes_makes_it_no_good(payload, data):
    text = signer.sign(payload)
    position = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from(ALPHABET + "=+/ .ä\0\n").filter(lambda one: one != text[position]))
    assert signer.verify(text[:position] + other + text[position + 1 :]) is None


@given(st.binary(max_size=60), st.data())
def test_what_was_cut_or_lengthened_is_no_good(payload, data):
    text = signer.sign(payload)
    assert signer.verify(text[: data.draw(st.integers(0, len(text) - 1))]) is None
    assert signer.verify(text + data.draw(st.text(ALPHABET + "= \n", min_size=1, max_size=5))) is None


@given(st.text(max_size=200))
def test_no_text_that_was_not_signed_is_good_or_breaks_anything(text):
    assert signer.verify(text) is None


def test_a_text_for_one_purpose_serves_no_other():
    text = signer.sign(b"payload")
    assert Signer(KeyRing([OLD]), "other").verify(text) is None
    assert Signer(KeyRing([NEW]), "test").verify(text) is None


def test_what_an_older_key_signed_is_good_until_that_key_goes_and_the_first_signs():
    old, both, new = Signer(KeyRing([OLD]), "t"), Signer(KeyRing([NEW, OLD]), "t"), Signer(KeyRing([NEW]), "t")
    assert both.verify(old.sign(b"x")) == b"x"
    assert new.verify(both.sign(b"x")) == b"x"
    assert new.verify(old.sign(b"x")) is None


@pytest.mark.parametrize("text", ["", "a", "mck_x", "ä"])
def test_a_digest_is_a_sha_256(text):
    assert len(digest(text)) == 32
