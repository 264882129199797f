"""What single cells of an export say."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mercato.plugins.commerce.bulk.currencies import exponent_of
from mercato.plugins.commerce.models import FINANCIAL_STATUSES, FULFILLMENT_STATUSES, ORDER_STATUSES
from mercato.plugins.commerce.shopify_csv.cells import (
    BadCell,
    bare,
    boolean,
    currency_code,
    email,
    line,
    moment,
    money,
    names,
    note,
    optional_moment,
    optional_money,
    whole,
)
from mercato.plugins.commerce.shopify_csv.statuses import financial_status, fulfillment_status, order_status

NOON = datetime(2024, 5, 3, 12, tzinfo=UTC)


@given(minor=st.integers(0, 10**15), exponent=st.integers(0, 4), zeros=st.integers(0, 3))
def test_every_amount_comes_back_exactly(minor: int, exponent: int, zeros: int):
    written = f"{Decimal(minor).scaleb(-exponent):f}"
    padded = written + ("0" * zeros if "." in written else "")
    assert money(padded, exponent, "Total") == minor


@pytest.mark.parametrize(
    ("text", "currency", "minor"),
    [
        ("12.50", "USD", 1250),
        ("12.5", "USD", 1250),
        ("12", "USD", 1200),
        ("", "USD", 0),
        (" 3.10 ", "EUR", 310),
        ("2480", "JPY", 2480),
        ("2480.00", "JPY", 2480),
        ("4.115", "KWD", 4115),
        ("4.11500", "KWD", 4115),
        ("0.0001", "CLF", 1),
    ],
)
def test_money_is_read_by_the_decimals_of_its_currency(text: str, currency: str, minor: int):
    assert money(text, exponent_of(currency), "Total") == minor


@pytest.mark.parametrize(
    ("text", "currency"),
    [
        *(("12.345", "USD"), ("1.5", "JPY"), ("0.0005", "KWD"), ("1,234.50", "USD"), ("$5", "USD"), ("-1.00", "USD")),
        *(("1e5", "USD"), ("NaN", "USD"), ("1_000", "USD"), ("\u0663.\u0665", "USD"), (".5", "USD"), ("5.", "USD")),
        ("9" * 18, "USD"),
    ],
)
def test_what_is_no_amount_of_the_currency_is_refused_and_never_rounded(text: str, currency: str):
    with pytest.raises(BadCell, match=r"^Total '"):
        money(text, exponent_of(currency), "Total")


def test_an_empty_amount_may_be_none():
    assert optional_money(" ", 2, "Compare-at price") is None
    assert optional_money("0.00", 2, "Compare-at price") == 0


@pytest.mark.parametrize(
    "text",
    ["2024-05-03 08:00:00 -0400", "2024-05-03 12:00:00 UTC", "2024-05-03T12:00:00Z", "2024-05-03 17:30:00 +0530"],
)
def test_times_are_read_as_utc(text: str):
    assert moment(text, "Created at") == NOON
    assert moment(text, "Created at").tzinfo is UTC


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "2024-05-03 12:00:00", "2024-02-30 12:00:00 -0400", "0001-01-01 00:00:00 +0900", "45384.3"],
)
def test_what_is_no_time_with_an_offset_is_refused(text: str):
    with pytest.raises(BadCell, match="is no time such as"):
        moment(text, "Created at")
    assert optional_moment(" ", "Paid at") is None


@pytest.mark.parametrize(
    ("financial", "fulfillment", "cancelled", "status"),
    [
        ("pending", "unfulfilled", False, "pending"),
        ("authorized", "unfulfilled", False, "pending"),
        ("partially_paid", "unfulfilled", False, "pending"),
        ("voided", "unfulfilled", False, "pending"),
        ("paid", "unfulfilled", False, "confirmed"),
        ("partially_refunded", "unfulfilled", False, "confirmed"),
        ("paid", "partial", False, "processing"),
        ("pending", "fulfilled", False, "shipped"),
        ("paid", "fulfilled", False, "shipped"),
        ("partially_refunded", "fulfilled", False, "shipped"),
        ("refunded", "fulfilled", False, "refunded"),
        ("refunded", "unfulfilled", True, "cancelled"),
        ("paid", "fulfilled", True, "cancelled"),
    ],
)
def test_the_status_of_an_order_is_derived(financial: str, fulfillment: str, cancelled: bool, status: str):
    assert order_status(financial, fulfillment, NOON if cancelled else None) == status


@pytest.mark.parametrize(
    ("text", "status"),
    [
        *((one, one) for one in FINANCIAL_STATUSES),
        *(("", "pending"), ("PAID", "paid"), ("Partially refunded", "partially_refunded"), ("expired", "voided")),
    ],
)
def test_financial_statuses_are_ours(text: str, status: str):
    assert financial_status(text) == status


@pytest.mark.parametrize(
    ("text", "status"),
    [
        *((one, one) for one in FULFILLMENT_STATUSES),
        *(
            ("", "unfulfilled"),
            ("restocked", "unfulfilled"),
            ("Partially fulfilled", "partial"),
            ("on_hold", "unfulfilled"),
        ),
    ],
)
def test_fulfillment_statuses_are_ours(text: str, status: str):
    assert fulfillment_status(text) == status


def test_every_derived_status_is_one_of_ours():
    derived = {
        order_status(financial, fulfillment, at)
        for financial in FINANCIAL_STATUSES
        for fulfillment in FULFILLMENT_STATUSES
        for at in (None, NOON)
    }
    assert derived <= set(ORDER_STATUSES)


def test_an_unknown_status_is_refused_with_those_there_are():
    with pytest.raises(BadCell, match="Financial Status 'owed' is unknown: pending, authorized, paid"):
        financial_status("owed")
    with pytest.raises(BadCell, match="Lineitem fulfillment status 'lost' is unknown"):
        fulfillment_status("lost", "Lineitem fulfillment status")


def test_texts_are_cut_and_put_on_a_line():
    assert line(" one\n two\tthree ") == "one two three"
    assert line("") is line(" \n ") is None
    assert line("x" * 300) == "x" * 255
    assert note("one\r\ntwo\rthree ") == "one\ntwo\nthree"
    assert note("x" * 6_000) == "x" * 5_000
    assert note("") is note("\n") is None


def test_the_quote_of_spreadsheets_is_taken_from_ids():
    assert bare("'5550000001") == bare(" 5550000001") == "5550000001"
    assert bare("'+1 413 555 0100") == "+1 413 555 0100"
    assert bare("'") is bare("") is None


def test_addresses_are_lower_case_or_none():
    assert email(" Ada@Example.COM ") == "ada@example.com"
    assert email("nobody") is email("") is email("a b@example.com") is email("a" * 260 + "@example.com") is None


def test_lists_have_each_part_once():
    assert names("vip, gift,, vip ,new") == ["vip", "gift", "new"]
    assert names("") == []


@pytest.mark.parametrize(
    ("text", "said"), [("yes", True), ("TRUE", True), ("no", False), ("false", False), ("", False)]
)
def test_yes_and_no(text: str, said: bool):
    assert boolean(text, "Accepts Marketing") is said


def test_what_is_neither_is_refused():
    with pytest.raises(BadCell, match="Accepts Marketing 'maybe' is neither yes nor no"):
        boolean("maybe", "Accepts Marketing")
    with pytest.raises(BadCell, match="Currency 'dollars' is no currency code"):
        currency_code("dollars", "Currency")
    with pytest.raises(BadCell, match=r"Lineitem quantity '1\.5' is no whole number from 0"):
        whole("1.5", "Lineitem quantity")
    with pytest.raises(BadCell, match=r"Inventory quantity '99999999999' is no whole number$"):
        whole("99999999999", "Inventory quantity", lowest=-(2**31))
    with pytest.raises(BadCell, match=r"Lineitem quantity \(empty\)"):
        whole("", "Lineitem quantity")
