from __future__ import annotations

from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mercato.server.oauth.errors import OAuthError
from mercato.server.oauth.forms import parameters
from mercato.server.oauth.scopes import asked_for, granted, narrowed, offered, parse
from mercato.tenancy.reach import EVERYTHING, Reach

CATEGORIES = ("commerce", "content", "probe")
words = st.sampled_from(["tools:read", "tools:write", "offline_access", "admin", "*", "nonsense", *CATEGORIES])
scopes = st.lists(words, max_size=8).map(" ".join)
reaches = st.builds(Reach, st.booleans(), st.none() | st.frozensets(st.sampled_from(CATEGORIES)))


@given(scopes, st.lists(words, max_size=6, unique=True))
def test_a_refresh_never_widens(scope, held):
    try:
        found, code = narrowed(scope, held), ""
    except OAuthError as refusal:
        found, code = [], refusal.code
    if code:
        assert code == "invalid_scope"
        assert set(scope.split()) - {"offline_access"} - set(held)
        return
    assert set(found) <= set(held)
    asked = set(scope.split()) - {"offline_access"}
    assert set(found) == (asked if asked else set(held))
    assert found == [word for word in held if word in found]


@given(scopes, reaches)
def test_what_is_wanted_is_never_more_than_what_is_asked_for_and_within_the_address(scope, reach):
    try:
        wanted, code = parse(scope, CATEGORIES, reach), None
    except OAuthError as refusal:
        wanted, code = None, refusal.code
    if wanted is None:
        assert code == "invalid_scope"
        return
    assert wanted.categories <= set(scope.split()) & set(CATEGORIES)
    assert all(reach.holds(category) for category in wanted.categories)
    assert not wanted.write or ("tools:write" in scope.split() and not reach.read_only)


@given(reaches)
def test_an_address_that_only_reads_offers_no_writing_and_no_other_category(reach):
    found = offered(CATEGORIES, reach)
    assert ("tools:write" in found) is not reach.read_only
    assert {word for word in found if ":" not in word} == {name for name in CATEGORIES if reach.holds(name)}
    assert set(asked_for(reach).split()) <= set(found)


def test_what_was_ticked_becomes_scopes():
    assert granted({"probe", "commerce"}, write=True) == ["tools:read", "tools:write", "commerce", "probe"]
    assert granted({"probe"}, write=False) == ["tools:read", "probe"]


def test_a_scope_that_is_too_long_or_known_to_nobody_is_refused():
    for scope in ("a" * 1_025, "nonsense", "admin *"):
        with pytest.raises(OAuthError) as refusal:
            parse(scope, CATEGORIES, EVERYTHING)
        assert refusal.value.code == "invalid_scope"
    assert parse(None, CATEGORIES, EVERYTHING) == parse("tools:read", CATEGORIES, EVERYTHING)


texts = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=8)


@given(st.dictionaries(texts.filter(bool), texts, max_size=5))
def test_parameters_come_out_as_they_were_sent(sent):
    assert parameters(urlencode(sent)) == {name: value for name, value in sent.items() if value}


@pytest.mark.parametrize("encoded", ["a=1&a=2", "a=%00", "%00=a", "a=%ff", "&".join("a=1" for _ in range(101))])
def test_parameters_that_say_two_things_or_cannot_be_read_are_refused(encoded):
    with pytest.raises(OAuthError) as refusal:
        parameters(encoded)
    assert refusal.value.code == "invalid_request"
