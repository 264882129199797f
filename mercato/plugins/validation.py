"""What a plugin declared, checked once, when it is loaded: a list that holds one unfit thing fails for everybody."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from mercato.plugins.category import Category
from mercato.plugins.events import Event
from mercato.plugins.jobs import Job
from mercato.plugins.settings import PluginSettings
from mercato.prompts.prompt import Prompt
from mercato.resources.resource import Resource
from mercato.tools.schema import Schema, SchemaError
from mercato.tools.tool import NAME, Tool

LONGEST_TITLE = 120
LONGEST_DESCRIPTION = 2_000
LONGEST_CATEGORY_DESCRIPTION = 500
LARGEST_BYTES = 16 * 1024

_HINTS = ("read_only", "destructive", "idempotent", "open_world", "admin")


def check_categories(categories: Iterable[Category], *, deeply: bool) -> None:
    """Raise `TypeError` or `ValueError` for what cannot be sent.

    `deeply` checks the schemas that pydantic made too, which takes milliseconds each: a plugin can add to them.
    """
    for category in categories:
        _check_text(f"the category {category.name}", "description", category.description, LONGEST_CATEGORY_DESCRIPTION)
        for tool in _all(category, "tools", Tool):
            _check_tool(tool, deeply=deeply)
        for resource in _all(category, "resources", Resource):
            _check_resource(resource)
        for prompt in _all(category, "prompts", Prompt):
            _check_prompt(prompt)


def check_jobs(plugin: str, jobs: Iterable[Job[..., Any]], events: Iterable[Event[Any]]) -> None:
    """Raise `TypeError` for a job or an event that is named after another plugin, or whose schema cannot be sent."""
    every: list[Job[..., Any] | Event[Any]] = [*jobs, *events]
    for declared in every:
        kind = type(declared).__name__.lower()
        if declared.name.partition(".")[0] != plugin:
            raise TypeError(f"the {kind} {declared.name!r} must be named `{plugin}.…`, after its plugin")
        _check_text(f"the {kind} {declared.name}", "description", declared.description)
        _check_json(f"the schema of the {kind} {declared.name}", declared.schema)


def check_settings(settings: PluginSettings | None) -> None:
    """Raise `TypeError` or `ValueError` where the tenant's settings or their schema cannot be shown."""
    if settings is None or settings.tenant is None:
        return
    model = settings.tenant
    for name in model.model_fields:
        try:
            default = model.model_construct().model_dump(mode="json", include={name}, warnings=False)[name]
            _check_json(f"the default of the tenant setting `{name}`", default)
        except (KeyError, ValueError, TypeError) as error:  # pydantic's own is a ValueError
            raise TypeError(f"the default of the tenant setting `{name}` is not JSON: {_first(error)}") from None
    _check_json("the schema of the tenant settings", model.model_json_schema())


def _all(category: Category, place: str, kind: type) -> Sequence[Any]:
    declared: Sequence[Any] = getattr(category, place)
    for item in declared:
        if not isinstance(item, kind):
            raise TypeError(f"the {place} of the category {category.name} hold a {type(item).__name__}")
    return declared


def _check_tool(tool: Tool, *, deeply: bool) -> None:
    what = f"the tool {tool.name}"
    _check_head(what, tool)
    _check_names(what, "requires", tool.requires)
    _check_names(what, "aliases", tool.aliases)
    for hint in _HINTS:
        if not isinstance(getattr(tool, hint), bool):
            raise TypeError(f"{what}: `{hint}` must be true or false")
    if tool.meta is not None and not isinstance(tool.meta, Mapping):
        raise TypeError(f"{what}: `meta` must be a mapping, not {type(tool.meta).__name__}")
    _check_json(f"the input schema of {what}", tool.input_schema)
    _check_json(f"the output schema of {what}", tool.output_schema)
    meta = dict(tool.meta) if tool.meta else None
    _check_json(f"the `meta` of {what}", meta)
    _check_json(what, [tool.title, tool.description, tool.input_schema, tool.output_schema, meta])
    if tool.is_raw or deeply:
        _check_schema(f"the input schema of {tool.name}", tool.input_schema)
        _check_schema(f"the output schema of {tool.name}", tool.output_schema or {})


def _check_resource(resource: Resource) -> None:
    what = f"the resource {resource.uri!r}"
    _check_head(what, resource)
    _check_names(what, "requires", resource.requires)
    _check_text(what, "mime_type", resource.mime_type, LONGEST_TITLE)
    _check_json(what, [resource.uri, resource.name, resource.description])


def _check_prompt(prompt: Prompt) -> None:
    what = f"the prompt {prompt.name!r}"
    _check_head(what, prompt)
    _check_json(what, [prompt.name, prompt.description, prompt.schema])
    for name, schema in prompt.schema["properties"].items():
        _check_text(f"the argument `{name}` of {what}", "description", schema.get("description", ""))


def _check_head(what: str, declared: Tool | Resource | Prompt) -> None:
    if declared.title is not None:
        _check_text(what, "title", declared.title, LONGEST_TITLE)
    _check_text(what, "description", declared.description, LONGEST_DESCRIPTION)


def _check_text(what: str, place: str, value: Any, longest: int = LONGEST_DESCRIPTION) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{what}: the {place} must be a text, not {type(value).__name__}")
    if len(value) > longest:
        raise ValueError(f"{what}: the {place} has {len(value):,} characters; {longest:,} are the most")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{what}: the {place} holds half a character (a lone surrogate)") from None


def _check_names(what: str, place: str, names: Any) -> None:
    if not isinstance(names, tuple | list) or not all(isinstance(name, str) and NAME.fullmatch(name) for name in names):
        raise TypeError(f"{what}: `{place}` must be a tuple of names")


def _check_json(what: str, value: Any) -> None:
    try:
        size = len(orjson.dumps(value))
    except TypeError as error:
        raise TypeError(f"{what} is not JSON: {_first(error)}") from None
    if size > LARGEST_BYTES:
        raise ValueError(f"{what} takes {size:,} bytes; {LARGEST_BYTES:,} are the most")


def _check_schema(what: str, schema: Schema) -> None:
    # Loaded only for a plugin that needs it: the built-in ones are checked by the tests.
    from jsonschema import Draft202012Validator, FormatChecker
    from jsonschema.exceptions import SchemaError as NoSchema

    try:
        # Without formats: a pattern may be in another dialect than Python's.
        Draft202012Validator.check_schema(schema, format_checker=FormatChecker(()))
    except NoSchema as error:
        where = "".join(f"[{step!r}]" for step in error.absolute_path)
        raise SchemaError(f"{what} is no JSON Schema: {where} {error.message[:200]}") from None


def _first(error: Exception) -> str:
    return str(error).partition("\n")[0]
