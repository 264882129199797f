"""Configuring: the schema of each setting of a model, and what is wrong with a value, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from mercato.tenancy.audit import MASK
from mercato.tools.arguments import reason_of
from mercato.tools.errors import ToolError
from mercato.tools.schema import Schema, SchemaError, input_schema

_LONGEST_NAME = 100


def schemas_of(model: type[BaseModel]) -> Mapping[str, Schema]:
    """Return the schema of each setting."""
    try:
        properties: Mapping[str, Schema] = input_schema(TypeAdapter(model))["properties"]
    except SchemaError:  # a union, say: still better shown than hidden
        properties = model.model_json_schema()["properties"]
    return properties


def check_given(section: str, model: type[BaseModel], given: Mapping[str, Any]) -> None:
    """Refuse settings that the model does not have, a mask in the place of a secret, and none at all.

    Raises `ToolError`.
    """
    known = list(model.model_fields)
    if not given:
        raise ToolError("`settings` is empty.", field="settings", allowed=known)
    for name, value in given.items():
        if name not in known:
            shown = name[:_LONGEST_NAME]
            raise ToolError(f"`{shown}` is no setting of `{section}`.", field=f"settings.{shown}", allowed=known)
        if value == MASK:
            raise ToolError(f"`{name}` is masked: leave it out to keep what it is.", field=f"settings.{name}")


def refusal_of(section: str, model: type[BaseModel], error: ValidationError) -> ToolError:
    """Return what to tell of values that are not valid: each with its reason, the first with what is allowed."""
    details = error.errors(include_url=False, include_input=False)
    paths = [".".join(map(str, detail["loc"])) or section for detail in details]
    text = " ".join(f"`{path}` {reason_of(detail)}." for path, detail in zip(paths, details, strict=True))
    name = paths[0].partition(".")[0]
    schema = schemas_of(model).get(name, {})
    allowed = schema.get("enum") or schema.get("items", {}).get("enum") or ()
    return ToolError(f"{text} Nothing was changed.", field=f"settings.{name}", allowed=allowed)
