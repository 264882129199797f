"""What is to be done about a call, by what is known of the answers that may be its own."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mercato.server.replays.verdict import UNDECIDED, judge
from mercato.tenancy.answers import Found
from mercato.tools.replays import Fingerprint

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
PATIENCE = timedelta(seconds=35)
CALL = Fingerprint(1, "local:None:None:1", "keep", b"f" * 32)


def row(number, status="committed", age_s=0.0, **values):
    given_values = {"fingerprint": b"f" * 32, "key_digest": None, "state_digest": None, "sealed": b"", **values}
    return Found(id=number, status=status, created_at=NOW - timedelta(seconds=age_s), **given_values)


@pytest.mark.parametrize(
    ("rows", "decided", "first", "waits"),
    [
        ([], {}, None, False),
        ([row(1, "undelivered")], {}, 1, False),
        ([row(1, "committed")], {}, None, True),
        ([row(1, "committed", age_s=2)], {}, 1, False),
        ([row(1, "committed")], {1: False}, 1, False),
        ([row(1, "committed", age_s=9)], {1: True}, None, False),
        ([row(1, "undelivered")], {1: True}, None, False),
        ([row(2, "committed"), row(1, "undelivered")], {}, 1, False),
        ([row(2, "undelivered"), row(1, "undelivered")], {}, 2, False),
        ([row(1, "abandoned", age_s=34)], {}, None, True),
        ([row(1, "abandoned", age_s=35)], {}, None, False),
        ([row(2, "abandoned"), row(1, "undelivered")], {}, 1, False),
    ],
)
def test_a_call_without_a_key_gets_the_newest_answer_that_was_lost(rows, decided, first, waits):
    verdict = judge(CALL, rows, decided, NOW, PATIENCE)
    assert (verdict.first.id if verdict.first else None, verdict.waits or verdict.is_abandoned) == (first, waits)


@pytest.mark.parametrize("status", ["committed", "delivered", "undelivered"])
@pytest.mark.parametrize("by", ["key", "state"])
def test_a_key_or_a_state_gets_its_answer_whatever_became_of_it(status, by):
    one = row(1, status, **{f"{by}_digest": b"x"})
    assert judge(replace(CALL, **{by: b"x"}), [one], {1: True}, NOW, PATIENCE).first is one


def test_a_key_of_another_call_is_told_as_such():
    other = row(1, "undelivered", fingerprint=b"other", key_digest=b"k")
    assert judge(replace(CALL, key=b"k"), [other], {}, NOW, PATIENCE).is_other


rows = st.builds(
    row,
    st.integers(1, 5),
    st.sampled_from(["committed", "delivered", "undelivered", "abandoned"]),
    st.sampled_from([0.0, UNDECIDED.total_seconds(), 60.0]),
    fingerprint=st.sampled_from([b"f" * 32, b"other"]),
    key_digest=st.sampled_from([None, b"k"]),
)


@given(st.lists(rows, max_size=5), st.dictionaries(st.integers(1, 5), st.booleans()), st.sampled_from([None, b"k"]))
def test_no_verdict_gives_the_answer_of_another_call_or_of_a_mark(found_rows, decided, key):
    verdict = judge(replace(CALL, key=key), found_rows, decided, NOW, PATIENCE)
    if verdict.first is not None:
        assert verdict.first.status != "abandoned"
        assert verdict.first.fingerprint == CALL.digest
        assert key is None or verdict.first.key_digest == key
    assert sum([verdict.first is not None, verdict.waits or verdict.is_abandoned, verdict.is_other]) <= 1
