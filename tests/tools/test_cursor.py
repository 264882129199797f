from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mercato import ToolError, decode_cursor, encode_cursor

NOON = datetime(2026, 1, 31, 12, 0, 0, 123456, tzinfo=UTC)


@pytest.mark.parametrize(
    ("keys", "types"),
    [
        ((5,), (int,)),
        ((NOON, 5), (datetime, int)),
        ((None, 5), (datetime | None, int)),
        (("Ünïcode", True, 1.5), (str, bool, float)),
        ((), ()),
    ],
)
def test_a_cursor_gives_back_the_keys_it_was_made_of(keys, types):
    assert decode_cursor(encode_cursor(keys, "orders:newest"), "orders:newest", types) == keys


def test_a_cursor_fits_the_parameter_it_comes_back_in():
    assert len(encode_cursor((NOON, 2**63 - 1), "orders:newest")) <= 200


def test_a_time_comes_back_in_utc():
    local = NOON.astimezone(timezone(timedelta(hours=9)))
    (decoded,) = decode_cursor(encode_cursor((local,), "x"), "x", (datetime,))
    assert decoded == NOON
    assert decoded.utcoffset() == timedelta()


@pytest.mark.parametrize(
    ("cursor", "types"),
    [
        ("", (int,)),
        ("x", (int,)),
        ("ü", (int,)),
        ("WzFd\n", (int,)),
        (encode_cursor((5,), "another list"), (int,)),
        (encode_cursor((5, 6), "list"), (int,)),
        (encode_cursor(("5",), "list"), (int,)),
        (encode_cursor((True,), "list"), (int,)),
        (encode_cursor((None,), "list"), (int,)),
        (encode_cursor((2**63,), "list"), (int,)),
        (encode_cursor(("NUL\0",), "list"), (str,)),
        (encode_cursor(("2026-01-31T12:00:00",), "list"), (datetime,)),
        (encode_cursor(("0001-01-01T00:00:00+14:00",), "list"), (datetime,)),
    ],
)
def test_any_other_cursor_is_refused_with_what_to_do(cursor, types):
    with pytest.raises(ToolError) as refusal:
        decode_cursor(cursor, "list", types)
    assert refusal.value.field == "cursor"
    assert refusal.value.text().endswith("Start again without it.")


@given(st.text(max_size=50))
@example("WyJsaXN0Iiwx")
def test_no_text_at_all_is_anything_but_refused(cursor):
    with pytest.raises(ToolError):
        decode_cursor(cursor, "list", (int,))
