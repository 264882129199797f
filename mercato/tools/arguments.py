"""Arguments: from what a client sent to what a tool's function takes, or to words that say what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from mercato.tools.errors import InvalidArguments
from mercato.tools.schema import Schema, example_of

_REASONS = {
    "missing": "is missing",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing_size": "is too large a number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be a text",
    "string_pattern_mismatch": "does not have the right form",
    "list_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "date_type": "must be a date such as 2026-01-31",
    "date_parsing": "must be a date such as 2026-01-31",
    "date_from_datetime_parsing": "must be a date such as 2026-01-31",
    "date_from_datetime_inexact": "must be a date such as 2026-01-31",
    "datetime_type": "must be a time such as 2026-01-31T09:00:00Z",
    "datetime_parsing": "must be a time such as 2026-01-31T09:00:00Z",
    "datetime_from_date_parsing": "must be a time such as 2026-01-31T09:00:00Z",
    "timezone_aware": "must name its offset, as in 2026-01-31T09:00:00Z",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "too_short": "must have at least {min_length} entries",
    "too_long": "must have at most {max_length} entries",
    "literal_error": "is not one of the allowed values",
    "enum": "is not one of the allowed values",
    "extra_forbidden": "is no parameter of this tool",
}


def parse(model: type[BaseModel], schema: Schema, raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments as the function takes them. Raises `InvalidArguments`."""
    if unstorable := _unstorable(raw):
        raise _invalid(schema, raw, [(unstorable, "contains a character that cannot be stored (NUL or half a pair)")])
    try:
        parsed = model.model_validate(dict(raw))
    except ValidationError as error:
        problems = [
            (_path(detail), reason_of(detail)) for detail in error.errors(include_url=False, include_input=False)
        ]
        raise _invalid(schema, raw, problems) from None
    return {name: getattr(parsed, name) for name in type(parsed).model_fields}


def _invalid(schema: Schema, raw: Mapping[str, Any], problems: list[tuple[str, str]]) -> InvalidArguments:
    properties: Mapping[str, Schema] = schema.get("properties", {})
    wrong = {path.partition(".")[0] for path, _ in problems}
    example = example_of(schema, raw, wrong)
    field = problems[0][0].partition(".")[0]
    allowed = _allowed(properties, field)
    sentences = " ".join(f"`{path}` {reason}." for path, reason in problems[:5])
    choice = f" Allowed for `{field}`: {', '.join(map(str, allowed))}." if field in properties and allowed else ""
    unknown = f" Parameters: {', '.join(properties) or 'none'}." if field not in properties else ""
    return InvalidArguments(
        f"{sentences}{choice}{unknown} Example: {_compact(example)}", field=field, allowed=allowed, example=example
    )


def _allowed(properties: Mapping[str, Schema], field: str) -> list[Any]:
    schema = properties.get(field)
    if schema is None:
        return []
    values = schema.get("enum") or schema.get("items", {}).get("enum") or []
    return [value for value in values if value is not None]


def _compact(value: Any) -> str:
    return orjson.dumps(value, default=str).decode()


def _path(detail: ErrorDetails) -> str:
    return ".".join(map(str, detail["loc"])) or "arguments"


def reason_of(detail: ErrorDetails) -> str:
    """Return what is wrong with a value, in words that follow its name."""
    if detail["type"] == "value_error":  # raised by a validator of the plugin, in its author's words
        return f"is not valid: {str(detail['ctx']['error']).rstrip('.')}"
    return _REASONS.get(detail["type"], "is not valid").format(**detail.get("ctx", {}))


def _unstorable(value: Any, path: str = "") -> str | None:
    """Return the path of the first text that PostgreSQL cannot store."""
    if isinstance(value, str):
        return path if "\x00" in value or any("\ud800" <= character <= "\udfff" for character in value) else None
    items: Any = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for name, item in items:
        if (found := _unstorable(item, f"{path}.{name}".lstrip("."))) is not None:
            return found
    return None
