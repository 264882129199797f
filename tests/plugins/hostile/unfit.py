"""Plugins whose declarations are accepted one by one, and could not be sent: each would break a list for everybody."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Annotated, Any

from pydantic import BaseModel, Field, RootModel

from mercato import Category, PluginSettings, ToolContext, hookimpl

HALF = "half \ud800"


class Answer(BaseModel):
    text: str


class Broken(BaseModel):
    text: str = Field(json_schema_extra={"minLength": "long"})


class NotJson(BaseModel):
    fine: int = 1
    thing: Any = object()


class HalfDefault(BaseModel):
    greeting: str = HALF


class HalfSchema(BaseModel):
    greeting: str = Field(default="", description=HALF)


class Rootless(RootModel[int]):
    root: int = 1


def _plugin(**hooks: Any) -> SimpleNamespace:
    returned = {hook: hookimpl(lambda value=value: value) for hook, value in hooks.items()}
    return SimpleNamespace(**returned)


def _settings(tenant: type[BaseModel]) -> SimpleNamespace:
    return _plugin(register_settings=PluginSettings(tenant=tenant))


def _category(name: str) -> Category:
    return Category(name, "Cannot be sent.")


def _tool(name: str, *, answer: Any = Answer, says: str = "Answer.", argument: Any = str, **options: Any) -> Any:
    async def function(ctx, word="word"):
        return answer(text=word)

    function.__name__, function.__doc__ = name, says
    function.__annotations__ = {"ctx": ToolContext, "word": argument, "return": answer}
    category = _category(name)
    category.tool(**{"read_only": True, **options})(function)
    return _plugin(register_categories=[category])


def _raw(name: str, schema: dict[str, Any]) -> SimpleNamespace:
    category = _category(name)

    async def function(ctx, arguments):
        """Answer."""

    function.__name__ = name
    category.raw_tool(input_schema=schema, read_only=True)(function)
    return _plugin(register_categories=[category])


def _resource(name: str, uri: str, says: str = "Read.", **options: Any) -> SimpleNamespace:
    category = _category(name)

    async def function(ctx):
        return ""

    function.__doc__ = says
    category.resource(uri, **options)(function)
    return _plugin(register_categories=[category])


def _prompt(name: str, says: str = "Prompt.", argument: Any = str, **options: Any) -> SimpleNamespace:
    category = _category(name)

    async def function(ctx, word="word"):
        return word

    function.__name__, function.__doc__ = name, says
    function.__annotations__ = {"word": argument}
    category.prompt(**options)(function)
    return _plugin(register_categories=[category])


default_not_json = _settings(NotJson)
default_half = _settings(HalfDefault)
settings_schema_half = _settings(HalfSchema)
settings_no_object = _settings(Rootless)
meta_not_json = _tool("meta_not_json", meta={"a": object()})
meta_no_mapping = _tool("meta_no_mapping", meta=5)
raw_schema_not_json = _raw("raw_schema_not_json", {"type": "object", "x": object()})
raw_schema_broken = _raw("raw_schema_broken", {"type": "object", "properties": 5})
output_schema_broken = _tool("output_schema_broken", answer=Broken)
tool_title_half = _tool("tool_title_half", title=HALF)
tool_title_long = _tool("tool_title_long", title="x" * 121)
tool_title_number = _tool("tool_title_number", title=5)
tool_says_half = _tool("tool_says_half", says=HALF)
tool_says_too_much = _tool("tool_says_too_much", says="x" * 2001)
parameter_half = _tool("parameter_half", argument=Annotated[str, Field(description=HALF)])
definition_too_large = _tool("definition_too_large", argument=Annotated[str, Field(description="x" * 20_000)])
hint_no_bool = _tool("hint_no_bool", open_world=object())
requires_number = _tool("requires_number", requires=5)
requires_list_in_it = _tool("requires_list_in_it", requires=([],))
alias_half = _tool("alias_half", aliases=(HALF,))
category_half = _plugin(register_categories=[Category("category_half", HALF)])
category_says_too_much = _plugin(register_categories=[Category("category_says_too_much", "x" * 501)])
category_holds_text = _plugin(register_categories=[Category("category_holds_text", "Holds a text.", tools=["a tool"])])
resource_uri_half = _resource("resource_uri_half", f"half://{HALF}")
resource_title_half = _resource("resource_title_half", "half://title", title=HALF)
resource_says_half = _resource("resource_says_half", "half://text", says=HALF)
resource_type_number = _resource("resource_type_number", "half://type", mime_type=5)
resource_requires_number = _resource("resource_requires_number", "half://requires", requires=5)
prompt_title_half = _prompt("prompt_title_half", title=HALF)
prompt_says_half = _prompt("prompt_says_half", says=HALF)
prompt_says_too_much = _prompt("prompt_says_too_much", says="x" * 2001)
prompt_argument_half = _prompt("prompt_argument_half", argument=Annotated[str, Field(description=HALF)])
prompt_argument_number = _prompt("prompt_argument_number", argument=Annotated[str, Field(description=5)])
