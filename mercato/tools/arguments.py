"""Arguments: from what a client sent to what a tool's function takes, or to words that say what is wrong."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import orjson
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from mercato.tools.errors import InvalidArguments
from mercato.tools.schema import Schema, example_of

_LONGEST_EXAMPLE = 1_000
_LONGEST_NAME = 100
_LONG_NUMBER = re.compile(rb"\d{19}")
_UNSTORABLE = "contains a character that cannot be stored (NUL or half a pair)"

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
    "time_type": "must be a time of day such as 09:00:00",
    "time_parsing": "must be a time of day such as 09:00:00",
    "uuid_type": "must be a UUID",
    "uuid_parsing": "must be a UUID",
    "url_type": "must be a URL",
    "url_parsing": "must be a URL",
    "url_scheme": "must be a URL that begins with {expected_schemes}",
    "multiple_of": "must be a multiple of {multiple_of}",
    "set_type": "must be a list",
    "tuple_type": "must be a list",
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


def parse(model: type[BaseModel], schema: Schema, raw: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments as the function takes them. Raises `InvalidArguments`."""
    try:
        parsed = model.__pydantic_validator__.validate_python(raw)
    except ValidationError as error:
        if not _is_storable_as_json(raw) and (problem := _unstorable(raw)) is not None:
            raise _invalid(model, schema, raw, [problem]) from None
        problems = [
            (_path(detail), reason_of(detail)) for detail in error.errors(include_url=False, include_input=False)
        ]
        raise _invalid(model, schema, raw, problems) from None
    arguments: dict[str, Any] = parsed.__dict__
    # After validation, which keeps every value: `1e30` is a whole number only now.
    if not _is_plainly_storable(arguments) and (problem := _unstorable(arguments)) is not None:
        raise _invalid(model, schema, raw, [problem])
    return arguments


def _invalid(
    model: type[BaseModel], schema: Schema, raw: Mapping[str, Any], problems: list[tuple[str, str]]
) -> InvalidArguments:
    properties: Mapping[str, Schema] = schema.get("properties", {})
    wrong = {path.partition(".")[0] for path, _ in problems}
    field = problems[0][0].partition(".")[0]
    allowed = _allowed(schema, problems[0][0])
    example = _fitting(model, *_examples(schema, raw, wrong))
    sentences = " ".join(f"`{_shown(path)}` {reason}." for path, reason in problems[:5])
    meant = f" {properties[field]['description']}" if properties.get(field, {}).get("description") else ""
    choice = f" Allowed for `{_shown(problems[0][0])}`: {', '.join(map(str, allowed))}." if allowed else ""
    unknown = f" Parameters: {', '.join(properties) or 'none'}." if field not in properties else ""
    shown = "" if example is None else f" Example: {_compact(example)}"
    return InvalidArguments(
        f"{sentences}{meant}{choice}{unknown}{shown}", field=_shown(field), allowed=allowed, example=example
    )


def _allowed(schema: Schema, path: str) -> list[Any]:
    """Return the values that are allowed at a path such as `lines.0.kind`, if they are a list."""
    for part in path.split("."):
        schema = schema.get("items", {}) if part.isdigit() else schema.get("properties", {}).get(part, {})
    values = schema.get("enum") or schema.get("items", {}).get("enum") or []
    return [value for value in values if value is not None]


def _examples(schema: Schema, raw: Mapping[str, Any], wrong: set[str]) -> Iterator[dict[str, Any]]:
    """Yield what may be shown: what was given, mended, then something plain; of an object of any shape nobody knows."""
    properties: Mapping[str, Schema] = schema.get("properties", {})
    unknown = {name for name, one in properties.items() if one.get("type") == "object" and not one.get("properties")}
    if not unknown & wrong:
        yield example_of(schema, raw, wrong)
    if not unknown & set(schema.get("required", ())):
        yield example_of(schema, {}, set())


def _fitting(model: type[BaseModel], *examples: dict[str, Any]) -> dict[str, Any] | None:
    """Return the first example that is short and right: one that is wrong would be worse than none."""
    for example in examples:
        if _unstorable(example) is None and len(_compact(example)) <= _LONGEST_EXAMPLE:
            with suppress(ValidationError):
                model.model_validate(example)
                return example
    return None


def _compact(value: Any) -> str:
    return orjson.dumps(value, default=str).decode()


def _path(detail: ErrorDetails) -> str:
    return ".".join(map(str, detail["loc"])) or "arguments"


def _shown(path: str) -> str:
    """Return a path that may be said: an unknown parameter's name can be anything."""
    return path[:_LONGEST_NAME].encode("utf-8", "replace").decode()


def reason_of(detail: ErrorDetails) -> str:
    """Return what is wrong with a value, in words that follow its name."""
    if detail["type"] in {"value_error", "assertion_error"}:  # raised by a validator, in its author's words
        return f"is not valid: {str(detail['ctx']['error']).rstrip('.')}"
    return _REASONS.get(detail["type"], "is not valid").format(**detail.get("ctx", {}))


def _is_plainly_storable(arguments: Mapping[str, Any]) -> bool:
    """Whether PostgreSQL can store all of them, at a glance: False is no answer, and needs a closer look."""
    for value in arguments.values():
        kind = type(value)
        if kind is str:
            if not value.isascii() or "\0" in value:
                break
        elif kind is int:
            if not -(2**63) <= value < 2**63:
                break
        elif kind is not bool and value is not None:
            break
    else:
        return True
    return _is_storable_as_json(arguments)


def _is_storable_as_json(value: Any) -> bool:
    try:
        text = orjson.dumps(value, default=_inside)
    except TypeError:  # half a pair, a number of more than 64 bits, or what is no JSON
        return False
    return b"\\u0000" not in text and _LONG_NUMBER.search(text) is None


def _inside(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.__dict__
    if isinstance(value, set | frozenset):
        return list(value)
    raise TypeError


def _unstorable(value: Any, path: str = "") -> tuple[str, str] | None:
    """Return the path of the first value that PostgreSQL cannot store, and why."""
    if isinstance(value, str):
        return None if _is_storable(value) else (path, _UNSTORABLE)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return path, "is too large a number"
    for name, item in _items(value):
        inner = f"{path}.{name}" if path else str(name)
        if (problem := _unstorable(name, inner) or _unstorable(item, inner)) is not None:
            return problem
    return None


def _items(value: Any) -> Iterable[tuple[Any, Any]]:
    if isinstance(value, Mapping):
        return value.items()
    if isinstance(value, BaseModel):
        return value.__dict__.items()
    return enumerate(value) if isinstance(value, list | tuple | set | frozenset) else ()


def _is_storable(text: str) -> bool:
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False
