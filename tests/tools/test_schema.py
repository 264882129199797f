from __future__ import annotations

import enum
import subprocess
import sys
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Literal

import orjson
import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel, Field, RootModel

from mercato import Category, ToolContext
from mercato.tools.schema import SchemaError

probe = Category("probe", "For the tests.")


class Colour(enum.StrEnum):
    RED = "red"
    BLUE = "blue"


class Money(BaseModel):
    """An amount."""

    amount_minor: int
    currency: str = Field(description="ISO 4217.")


class Line(BaseModel):
    title: Annotated[str, Field(description="What it says.")]
    price: Money
    discount: Money | None = None


class Node(BaseModel):
    children: list[Node]


class First(BaseModel):
    second: Second | None = None


class Second(BaseModel):
    first: First | None = None


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]


class Pet(BaseModel):
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]


class Answer(BaseModel):
    text: str


class Nullable(BaseModel):
    name: str | None
    colour: Colour | None
    only: Literal["only"] | None
    mixed: Literal["a", 1] | None
    money: Money | None
    names: list[str | None]
    anything: Any


class Listed(RootModel[list[str]]):
    pass


def tool_of(function, **options):
    return probe.tool(read_only=True, **options)(function)


@probe.tool(read_only=True)
async def every_kind(
    ctx: ToolContext,
    needed: Annotated[int, Field(ge=1, le=9, description="Needed.")],
    maybe: Annotated[str | None, Field(max_length=5, description="May be absent.")] = None,
    choice: Annotated[Literal["a", "b"], Field(description="One of two.")] = "a",
    maybe_choice: Literal["x", "y"] | None = None,
    colour: Colour = Colour.RED,
    lines: Annotated[list[Line], Field(min_length=1)] = [],  # noqa: B006
    since: date | None = None,
    tags: list[str] | None = None,
    title: str = "a parameter may be called as a keyword is",
) -> Answer:
    """Take every kind."""
    return Answer(text="")


def test_an_input_schema_is_flat_closed_and_optional_means_absent():
    money = {
        "type": "object",
        "description": "An amount.",
        "properties": {"amount_minor": {"type": "integer"}, "currency": {"type": "string", "description": "ISO 4217."}},
        "required": ["amount_minor", "currency"],
    }
    assert every_kind.input_schema == {
        "type": "object",
        "additionalProperties": False,
        "required": ["needed"],
        "properties": {
            "needed": {"type": "integer", "minimum": 1, "maximum": 9, "description": "Needed."},
            "maybe": {"type": "string", "maxLength": 5, "description": "May be absent."},
            "choice": {"type": "string", "enum": ["a", "b"], "default": "a", "description": "One of two."},
            "maybe_choice": {"type": "string", "enum": ["x", "y"]},
            "colour": {"type": "string", "enum": ["red", "blue"], "default": "red"},
            "lines": {
                "type": "array",
                "minItems": 1,
                "default": [],
                "items": {
                    "type": "object",
                    "properties": {
                        "title": {"type": "string", "description": "What it says."},
                        "price": money,
                        "discount": money,
                    },
                    "required": ["title", "price"],
                },
            },
            "since": {"type": "string", "format": "date"},
            "tags": {"type": "array", "items": {"type": "string"}},
            "title": {"type": "string", "default": "a parameter may be called as a keyword is"},
        },
    }


def test_an_output_schema_is_inlined_and_says_what_may_be_null():
    async def answer(ctx: ToolContext) -> Nullable:
        """Answer."""

    properties = tool_of(answer).output_schema["properties"]
    assert properties["name"] == {"type": ["string", "null"]}
    assert properties["colour"] == {"type": ["string", "null"], "enum": ["red", "blue", None]}
    assert properties["only"] == {"type": ["string", "null"], "enum": ["only", None]}
    assert properties["mixed"] == {"enum": ["a", 1, None]}
    assert properties["money"]["type"] == ["object", "null"]
    assert properties["names"]["items"] == {"type": ["string", "null"]}
    assert properties["anything"] == {}


@pytest.mark.parametrize(
    "answer",
    [
        Nullable(name=None, colour=None, only=None, mixed=None, money=None, names=[None], anything=None),
        Nullable(
            name="n",
            colour=Colour.BLUE,
            only="only",
            mixed=1,
            money=Money(amount_minor=1, currency="EUR"),
            names=["n"],
            anything={"a": [1]},
        ),
    ],
)
def test_an_answer_fits_its_own_output_schema_with_nulls_and_without(answer):
    async def reply(ctx: ToolContext) -> Nullable:
        """Answer."""

    tool = tool_of(reply)
    Draft202012Validator.check_schema(tool.output_schema)
    Draft202012Validator(tool.output_schema).validate(orjson.loads(tool.dump(answer)))


async def take_a_union(ctx: ToolContext, which: int | str) -> Answer:
    """Answer."""


async def take_a_union_in_a_list(ctx: ToolContext, which: list[int | str]) -> Answer:
    """Answer."""


async def take_a_choice_of_models(ctx: ToolContext, which: Annotated[Cat | Dog, Field(discriminator="kind")]) -> Answer:
    """Answer."""


async def take_a_choice_of_models_in_a_list(ctx: ToolContext, which: list[Pet]) -> Answer:
    """Answer."""


async def take_a_decimal(ctx: ToolContext, which: Decimal) -> Answer:
    """Answer."""


async def take_itself(ctx: ToolContext, which: Node) -> Answer:
    """Answer."""


async def take_one_another(ctx: ToolContext, which: First) -> Answer:
    """Answer."""


UNSAYABLE = (
    take_a_union,
    take_a_union_in_a_list,
    take_a_choice_of_models,
    take_a_choice_of_models_in_a_list,
    take_a_decimal,
)


@pytest.mark.parametrize("function", UNSAYABLE)
def test_a_union_is_refused_wherever_it_is_and_named(function):
    with pytest.raises(SchemaError, match=r"`which`: .*a union of types cannot be said"):
        tool_of(function)


@pytest.mark.parametrize(("function", "model"), [(take_itself, "Node"), (take_one_another, "First")])
def test_a_model_that_contains_itself_is_refused(function, model):
    with pytest.raises(SchemaError, match=rf"the model {model} contains itself"):
        tool_of(function)


@pytest.mark.parametrize("returned", [Node, Pet, Listed])
def test_an_answer_that_cannot_be_said_is_refused(returned):
    async def answer(ctx: ToolContext) -> Answer:
        """Answer."""

    answer.__annotations__["return"] = returned
    with pytest.raises(SchemaError, match="the tool answer: "):
        tool_of(answer)


def test_a_parameter_may_carry_a_header_of_the_wire():
    async def answer(
        ctx: ToolContext,
        region: Annotated[str, Field(description="Where.", json_schema_extra={"x-mcp-header": "Region"})],
    ) -> Answer:
        """Answer."""

    schema = tool_of(answer).input_schema["properties"]["region"]
    assert schema == {"type": "string", "description": "Where.", "x-mcp-header": "Region"}


def test_a_destructive_tool_has_a_confirmation_that_is_optional():
    async def destroy(ctx: ToolContext, which: int) -> Answer:
        """Destroy."""

    schema = probe.tool(read_only=False, destructive=True)(destroy).input_schema
    assert schema["properties"]["confirm"]["type"] == "boolean"
    assert schema["required"] == ["which"]


def test_a_tool_without_parameters_takes_an_empty_object():
    async def answer(ctx: ToolContext) -> Answer:
        """Answer."""

    assert tool_of(answer).input_schema == {"type": "object", "properties": {}, "additionalProperties": False}


async def take_variadic(ctx: ToolContext, *names: str) -> Answer:
    """Answer."""


async def take_keywords(ctx: ToolContext, **names: str) -> Answer:
    """Answer."""


async def take_positional(ctx: ToolContext, name: str, /) -> Answer:
    """Answer."""


async def take_confirm(ctx: ToolContext, confirm: bool) -> Answer:
    """Answer."""


async def take_no_context() -> Answer:
    """Answer."""


async def take_no_docstring(ctx: ToolContext) -> Answer: ...


async def CamelCase(ctx: ToolContext) -> Answer:
    """Answer."""


@pytest.mark.parametrize(
    "function",
    [take_variadic, take_keywords, take_positional, take_confirm, take_no_context, take_no_docstring, CamelCase],
)
def test_a_function_that_cannot_be_a_tool_is_refused_when_it_is_declared(function):
    with pytest.raises(TypeError, match=function.__name__):
        tool_of(function)


def test_a_tool_cannot_be_read_only_and_destructive():
    async def answer(ctx: ToolContext) -> Answer:
        """Answer."""

    with pytest.raises(TypeError, match="read-only and destructive"):
        probe.tool(read_only=True, destructive=True)(answer)


def test_an_answer_whose_fields_are_not_what_they_say_is_an_error_and_elsewhere_a_warning_stays_one():
    program = (
        "from pydantic import BaseModel\n"
        "from mercato import Category\n"
        "class Answer(BaseModel):\n"
        "    number: int\n"
        "async def answer(ctx) -> Answer:\n"
        "    'Answer.'\n"
        "wrong = Answer.model_construct(number='one')\n"
        "print(wrong.model_dump_json())\n"
        "Category('probe', 'Answers.').tool(read_only=True)(answer).dump(wrong)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, '{"number":"one"}\n')
    assert "in dump" in done.stderr
