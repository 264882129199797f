from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mercato.plugins.commerce.untrusted import UntrustedAddress, clean, clean_line


@given(st.text(max_size=300), st.integers(10, 100))
@example("\u202eabc\u2066def\ufeff\u200b\U000e0061", 50)
def test_what_nobody_can_see_is_gone_and_the_length_is_capped(text, longest):
    cleaned = clean(text, longest)
    assert len(cleaned) <= longest
    assert not {unicodedata.category(one) for one in cleaned if one not in "\n\t"} & {"Cc", "Cf", "Cs", "Co", "Cn"}
    assert clean(cleaned, longest) == cleaned


@given(st.text(max_size=300))
def test_a_line_is_one_line(text):
    assert len(clean_line(text).splitlines()) <= 1


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("Please\r\nring twice", "Please\nring twice"),
        ("a\u2028b\n\n\n\n\nc", "a\nb\n\nc"),
        ("zero\u200bwidth", "zerowidth"),
        ("hidden\U000e0101\u3164", "hidden"),
        ("Grüße, 東京 ❤\ufe0f", "Grüße, 東京 ❤\ufe0f"),
        ("tab\tstays", "tab\tstays"),
        ("\x1b[31mred", "[31mred"),
    ],
)
def test_text_reads_as_a_person_sees_it(text, seen):
    assert clean(text) == seen


def test_an_address_keeps_what_it_knows_and_takes_the_name_from_its_parts():
    address = UntrustedAddress.read(
        {"first_name": "Ada", "last_name": None, "city": "Bonn", "latitude": 1.5, "zip": ""}
    )
    assert address is not None
    assert address.model_dump(exclude_none=True) == {"name": "Ada", "city": "Bonn"}
    assert UntrustedAddress.read({}) is None
    assert UntrustedAddress.read(None) is None
