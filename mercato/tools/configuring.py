"""Configuring: the schema of each setting of a model, and what is wrong with a value, in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pydantic import BaseModel, TypeAdapter, ValidationError

from mercato.tools.arguments import reason_of
from mercato.tools.errors import ToolError
from mercato.tools.schema import Schema, SchemaError, input_schema


def schemas_of(model: type[BaseModel]) -> Mapping[str, Schema]:
    """Return the schema of each setting."""
    try:
        properties: Mapping[str, Schema] = input_schema(TypeAdapter(model))["properties"]
    except SchemaError:  # a union, say: still better shown than hidden
        properties = model.model_json_schema()["properties"]
    return properties


def refuse_unknown(section: str, model: type[BaseModel], given: Iterable[str]) -> None:
    """Refuse settings that the model does not have, and none at all. Raises `ToolError`."""
    names, known = list(given), list(model.model_fields)
    if not names:
        raise ToolError("`settings` is empty.", field="settings", allowed=known)
    for name in names:
        if name not in known:
            raise ToolError(f"`{name}` is no setting of `{section}`.", field=f"settings.{name}", allowed=known)


def refusal_of(section: str, model: type[BaseModel], error: ValidationError) -> ToolError:
    """Return what to tell of values that are not valid: each with its reason, the first with what is allowed."""
    details = error.errors(include_url=False, include_input=False)
    paths = [".".join(map(str, detail["loc"])) or section for detail in details]
    text = " ".join(f"`{path}` {reason_of(detail)}." for path, detail in zip(paths, details, strict=True))
    name = paths[0].partition(".")[0]
    schema = schemas_of(model).get(name, {})
    allowed = schema.get("enum") or schema.get("items", {}).get("enum") or ()
    return ToolError(f"{text} Nothing was changed.", field=f"settings.{name}", allowed=allowed)
