from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import AfterValidator, AwareDatetime, BaseModel, Field
from pydantic_core import PydanticCustomError

from mercato import Category, ToolContext
from mercato.tools.arguments import parse
from mercato.tools.errors import InvalidArguments

probe = Category("probe", "For the tests.")


class Answer(BaseModel):
    text: str


class Line(BaseModel):
    sku: Annotated[str, Field(min_length=6)]
    quantity: Annotated[int, Field(gt=5)]
    kind: Literal["sale", "return"] = "sale"


def _even(value: int) -> int:
    if value % 2:
        raise ValueError("odd numbers are for others.")
    return value


def _unlucky(value: int) -> int:
    raise PydanticCustomError("unlucky", "Input should be lucky")


@probe.tool(read_only=True)
async def every_kind(
    ctx: ToolContext,
    number: Annotated[int, Field(ge=1, le=9)],
    ratio: Annotated[float, Field(gt=0, lt=1)] = 0.5,
    flag: bool = False,
    text: Annotated[str, Field(min_length=2, max_length=3)] = "ab",
    code: Annotated[str, Field(pattern="^[A-Z]{3}$", examples=["EUR"])] = "USD",
    choice: Literal["a", "b"] = "a",
    choices: list[Literal["x", "y"]] = [],  # noqa: B006
    lines: Annotated[list[Line], Field(min_length=1, max_length=2)] | None = None,
    day: date | None = None,
    at: AwareDatetime | None = None,
    naive: datetime | None = None,
    free: dict[str, Any] | None = None,
    even: Annotated[int, AfterValidator(_even)] = 2,
) -> Answer:
    """Take every kind."""
    return Answer(text="")


@probe.tool(read_only=True)
async def no_example_fits(ctx: ToolContext, code: Annotated[str, Field(pattern="^[A-Z]{3}$")]) -> Answer:
    """Take what no example can be made for."""
    return Answer(text="")


@probe.tool(read_only=True)
async def speaks_pydantic(ctx: ToolContext, number: Annotated[int, AfterValidator(_unlucky)]) -> Answer:
    """Validate in the library's words."""
    return Answer(text="")


@probe.tool(read_only=True)
async def takes_none(ctx: ToolContext) -> Answer:
    """Take nothing."""
    return Answer(text="")


def refusal(tool, **arguments):
    with pytest.raises(InvalidArguments) as raised:
        tool.parse(arguments)
    return raised.value


REASONS = [
    ({}, "number", "`number` is missing."),
    ({"number": "many"}, "number", "`number` must be a whole number."),
    ({"number": 1.5}, "number", "`number` must be a whole number."),
    ({"number": 0}, "number", "`number` must be at least 1."),
    ({"number": 10}, "number", "`number` must be at most 9."),
    ({"number": 1, "ratio": 0}, "ratio", "`ratio` must be greater than 0"),
    ({"number": 1, "ratio": 1}, "ratio", "`ratio` must be less than 1"),
    ({"number": 1, "ratio": "half"}, "ratio", "`ratio` must be a number."),
    ({"number": 1, "flag": "perhaps"}, "flag", "`flag` must be true or false."),
    ({"number": 1, "text": 1}, "text", "`text` must be a text."),
    ({"number": 1, "text": "a"}, "text", "`text` must have at least 2 characters."),
    ({"number": 1, "text": "abcd"}, "text", "`text` must have at most 3 characters."),
    ({"number": 1, "text": " a "}, "text", "`text` must have at least 2 characters."),
    ({"number": 1, "code": "eur"}, "code", "`code` does not have the right form."),
    ({"number": 1, "choice": "c"}, "choice", "`choice` is not one of the allowed values. Allowed for `choice`: a, b."),
    ({"number": 1, "choices": ["x", "z"]}, "choices", "Allowed for `choices.1`: x, y."),
    ({"number": 1, "lines": "one"}, "lines", "`lines` must be a list."),
    ({"number": 1, "lines": []}, "lines", "`lines` must have at least 1 entries."),
    ({"number": 1, "lines": ["one"]}, "lines", "`lines.0` must be an object."),
    ({"number": 1, "lines": [{"quantity": 6}]}, "lines", "`lines.0.sku` is missing."),
    (
        {"number": 1, "lines": [{"sku": "abcdef", "quantity": 6, "kind": "gift"}]},
        "lines",
        "Allowed for `lines.0.kind`: sale, return.",
    ),
    ({"number": 1, "day": "tomorrow"}, "day", "`day` must be a date such as 2026-01-31."),
    ({"number": 1, "at": "2026-01-31T09:00:00"}, "at", "`at` must name its offset, as in 2026-01-31T09:00:00Z."),
    ({"number": 1, "naive": "noon"}, "naive", "`naive` must be a time such as 2026-01-31T09:00:00Z."),
    ({"number": 1, "free": []}, "free", "`free` must be an object."),
    ({"number": 1, "even": 3}, "even", "`even` is not valid: odd numbers are for others."),
    ({"number": 1, "nmber": 1}, "nmber", "`nmber` is no parameter of this tool. Parameters: number, ratio, "),
    ({"number": 1, "text": "a\0"}, "text", "`text` contains a character that cannot be stored"),
    ({"number": 1, "free": {"a": ["\ud800"]}}, "free", "`free.a.0` contains a character that cannot be stored"),
    ({"number": 1, "free": {"a\0": 1}}, "free", "contains a character that cannot be stored"),
    ({"number": 1, "even": 2**63}, "even", "`even` is too large a number."),
    ({"number": 1, "even": 1e30}, "even", "`even` is too large a number."),
    ({"number": 1, "even": "8" * 30}, "even", "`even` is too large a number."),
    ({"number": 1, "free": {"a": -(2**63) - 1}}, "free", "`free.a` is too large a number."),
]


@pytest.mark.parametrize(("arguments", "field", "sentence"), REASONS)
def test_a_wrong_argument_is_named_with_the_reason_and_an_example_that_fits(arguments, field, sentence):
    error = refusal(every_kind, **arguments)
    assert sentence in error.text()
    assert error.data()["field"] == field
    assert error.text().count("Allowed") <= 1
    every_kind.parse(error.data()["example"])


def test_the_example_keeps_what_was_right():
    example = refusal(every_kind, number=3, text="xyz", choice="c", nonsense=1).data()["example"]
    assert example == {"number": 3, "text": "xyz", "choice": "a"}


def test_what_is_allowed_is_there_for_programs_too():
    assert refusal(every_kind, number=1, choice="c").data()["allowed"] == ["a", "b"]


def test_several_wrong_arguments_are_named_at_once():
    text = refusal(every_kind, number=0, choice="c", text="a").text()
    assert all(f"`{name}`" in text for name in ("number", "choice", "text"))


def test_an_example_that_would_be_wrong_is_not_given():
    error = refusal(no_example_fits, code="euro")
    assert error.text() == "`code` does not have the right form."
    assert "example" not in error.data()


def test_the_words_of_a_library_are_not_passed_on():
    assert refusal(speaks_pydantic, number=1).text() == "`number` is not valid."


def test_a_tool_without_parameters_says_so():
    assert refusal(takes_none, limit=3).text() == "`limit` is no parameter of this tool. Parameters: none. Example: {}"


def test_a_long_argument_is_not_sent_back():
    error = refusal(every_kind, number=0, free={"note": "x" * 10_000})
    assert len(error.text()) < 2_000
    every_kind.parse(error.data()["example"])


def test_a_long_or_broken_unknown_name_is_shortened_and_mended():
    text = refusal(every_kind, number=1, **{"\ud800" + "n" * 5_000: 1}).text()
    assert len(text) < 2_000
    assert text.encode()


def test_texts_are_stripped_and_numbers_in_texts_read():
    parsed = every_kind.parse({"number": "3", "text": " ab "})
    assert (parsed["number"], parsed["text"], parsed["choices"]) == (3, "ab", [])


def test_parsing_hands_the_function_models_and_not_dicts():
    parsed = every_kind.parse({"number": 1, "lines": [{"sku": "abcdef", "quantity": 6}]})
    assert parsed["lines"] == [Line(sku="abcdef", quantity=6)]


def test_prompts_parse_as_tools_do():
    with pytest.raises(InvalidArguments, match="is no parameter"):
        parse(takes_none._model, takes_none.input_schema, {"x": "1"})


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=True)
    | st.text(st.characters(codec=None), max_size=12)
    | st.sampled_from(["a", "x", "ab", "EUR", "2026-01-31", "2026-01-31T09:00:00Z", "\0", "1e400"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec=None), max_size=5), inner),
    max_leaves=6,
)
NAMES = st.sampled_from([*every_kind.input_schema["properties"], "unknown", "", "a.b", "\ud800"])


@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(NAMES, JSON, max_size=6))
def test_whatever_comes_is_parsed_or_refused_with_an_example_that_fits(arguments):
    try:
        every_kind.parse(arguments)
    except InvalidArguments as error:
        every_kind.parse(error.data()["example"])
        said = f"{error.text()} {error.data()}"
        assert said.encode()
        assert not any(words in said for words in ("pydantic", "Input should", "validation error", "type="))
