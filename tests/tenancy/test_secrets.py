from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mercato.tenancy.connections import Connection, find_connection, open_connection, read_credentials
from mercato.tenancy.errors import InvalidValue, NotFound
from mercato.tenancy.secrets import KEY_BYTES, KeyRing, new_key

OLD, NEW = b"o" * KEY_BYTES, b"n" * KEY_BYTES
PLACE = (1, "mercato.connections", "sealed", 7)
PLACES = st.tuples(st.integers(1, 2**63 - 1), st.text(max_size=8), st.text(max_size=8), st.integers(1, 2**63 - 1))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(secret=st.binary(max_size=200), place=PLACES)
def test_what_was_sealed_is_opened_in_its_place(secret, place):
    ring = KeyRing([NEW, OLD])
    sealed = ring.seal(secret, place)
    assert ring.open(sealed, place) == secret
    assert len(secret) < 8 or secret not in sealed


@settings(max_examples=100, deadline=None, derandomize=True)
@given(place=PLACES, other=PLACES)
def test_what_was_moved_to_another_place_is_not_opened(place, other):
    if place == other:
        return
    ring = KeyRing([NEW])
    with pytest.raises(InvalidValue, match="changed or moved"):
        ring.open(ring.seal(b"secret", place), other)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(position=st.integers(0, 60), bit=st.integers(0, 7))
def test_what_was_changed_anywhere_is_not_opened(position, bit):
    sealed = bytearray(KeyRing([NEW]).seal(b"a secret of some length", PLACE))
    sealed[position % len(sealed)] ^= 1 << bit
    with pytest.raises(InvalidValue):
        KeyRing([NEW]).open(bytes(sealed), PLACE)


@given(st.binary(max_size=40))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_what_was_never_sealed_is_not_opened(garbage):
    with pytest.raises(InvalidValue):
        KeyRing([NEW]).open(garbage, PLACE)


def test_a_rotated_ring_opens_what_was_sealed_before_and_seals_with_the_new_key():
    sealed = KeyRing([OLD]).seal(b"secret", PLACE)
    rotated = KeyRing([NEW, OLD])
    assert rotated.open(sealed, PLACE) == b"secret"
    with pytest.raises(InvalidValue, match="not in MERCATO_SECRET_KEYS"):
        KeyRing([OLD]).open(rotated.seal(b"secret", PLACE), PLACE)


def test_the_same_secret_is_never_sealed_the_same_way_twice():
    assert KeyRing([NEW]).seal(b"secret", PLACE) != KeyRing([NEW]).seal(b"secret", PLACE)


def test_keys_for_other_purposes_differ_by_purpose_and_key():
    ring = KeyRing([NEW, OLD])
    derived = [*ring.derive("one"), *ring.derive("two")]
    assert len(set(derived)) == 4
    assert NEW not in derived
    assert KeyRing([NEW, OLD]).derive("one") == ring.derive("one")


@pytest.mark.parametrize("text", ["", " , ", "short", base64.b64encode(b"x" * 31).decode(), "not base64!"])
def test_a_ring_that_cannot_be_used_says_which_variable_to_set(text):
    with pytest.raises(InvalidValue, match=r"MERCATO_SECRET_KEYS|32 bytes"):
        KeyRing.from_text(text)


def test_a_ring_is_read_from_text():
    first, second = new_key(), new_key()
    sealed = KeyRing.from_text(first).seal(b"secret", PLACE)
    assert KeyRing.from_text(f" {second} , {first},").open(sealed, PLACE) == b"secret"


async def test_credentials_of_a_connection_are_sealed_to_their_row(database, runtime, tenant, other_tenant):
    async with database.tenant(tenant.id) as db:
        await open_connection(db, runtime.ring, "shop", "one", {"token": "shpat_1"})
        await open_connection(db, runtime.ring, "shop", "two", {"token": "shpat_2"})
    async with database.tenant(tenant.id) as db:
        one, two = await find_connection(db, "shop", "one"), await find_connection(db, "shop", "two")
    assert b"shpat_1" not in one.sealed
    assert read_credentials(one, runtime.ring) == {"token": "shpat_1"}
    with pytest.raises(InvalidValue, match="changed or moved"):
        read_credentials(Connection(**{**one._mapping, "sealed": two.sealed}), runtime.ring)
    async with database.tenant(other_tenant.id) as db:
        with pytest.raises(NotFound):
            await find_connection(db, "shop")


async def test_a_connection_that_is_opened_again_is_replaced(database, runtime, tenant):
    for token in ("first", "second"):
        async with database.tenant(tenant.id) as db:
            await open_connection(db, runtime.ring, "shop", "one", {"token": token})
    async with database.tenant(tenant.id) as db:
        assert read_credentials(await find_connection(db, "shop"), runtime.ring) == {"token": "second"}
