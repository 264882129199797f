"""JSON Schemas that every client accepts: flat input without unions or references, inlined output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

Schema = dict[str, Any]
_NULL = {"type": "null"}
_TEXTS = {
    "date": "2026-01-31",
    "date-time": "2026-01-31T09:00:00Z",
    "email": "ada@example.com",
    "time": "09:00:00Z",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


class SchemaError(TypeError):
    """A tool's types cannot be said in a schema that every client accepts."""


def input_schema(adapter: TypeAdapter[Any]) -> Schema:
    """Return the schema of a tool's arguments: an object whose optional parameters are absent, never null."""
    schema = _inlined(adapter.json_schema(mode="validation"), nullable=False)
    schema.setdefault("properties", {})
    return {"type": "object", **schema}


def output_schema(adapter: TypeAdapter[Any]) -> Schema:
    """Return the schema of a tool's answer: an object in both protocol eras, nullable as `[type, "null"]`."""
    schema = _inlined(adapter.json_schema(mode="serialization"), nullable=True)
    if schema.get("type") != "object":
        raise SchemaError("a tool must return a model, whose schema is an object")
    return schema


def _inlined(root: Schema, *, nullable: bool) -> Schema:
    definitions: Mapping[str, Schema] = root.get("$defs", {})

    def resolve(node: Any, above: tuple[str, ...]) -> Any:
        if isinstance(node, list):
            return [resolve(item, above) for item in node]
        if not isinstance(node, dict):
            return node
        if reference := node.get("$ref"):
            name = reference.rpartition("/")[2]
            if name in above:
                raise SchemaError(f"the model {name} contains itself; a schema without references cannot say that")
            rest = {key: value for key, value in node.items() if key != "$ref"}
            return resolve({**definitions[name], **rest}, (*above, name))
        if "oneOf" in node or "allOf" in node:
            raise SchemaError("a union of types cannot be said in a schema that every client accepts")
        if "anyOf" in node:
            return resolve(_optional(node, nullable=nullable, resolve=lambda item: resolve(item, above)), above)
        return {key: _child(key, value, above) for key, value in node.items() if not _is_left_out(key, value)}

    def _child(key: str, value: Any, above: tuple[str, ...]) -> Any:
        # The names of properties are not keywords: a parameter may well be called `title`.
        if key == "properties":
            return {name: _property(name, item, above) for name, item in value.items()}
        return value if key in {"default", "enum", "const", "examples", "required"} else resolve(value, above)

    def _property(name: str, node: Any, above: tuple[str, ...]) -> Any:
        try:
            return resolve(node, above)
        except SchemaError as error:
            raise SchemaError(f"`{name}`: {error}") from None

    def _is_left_out(key: str, value: Any) -> bool:
        return key in {"title", "$defs"} or (key == "default" and value is None and not nullable)

    resolved: Schema = resolve(root, ())
    return resolved


def _optional(node: Schema, *, nullable: bool, resolve: Any) -> Schema:
    """Turn `X | None` into X, or into a nullable X."""
    choices = [choice for choice in node["anyOf"] if choice != _NULL]
    if len(choices) != 1:
        raise SchemaError("a union of types cannot be said in a schema that every client accepts")
    rest = {key: value for key, value in node.items() if key != "anyOf"}
    inner = {**resolve(choices[0]), **rest}
    if nullable and len(choices) < len(node["anyOf"]):
        if isinstance(inner.get("type"), str):
            inner["type"] = [inner["type"], "null"]
        if "const" in inner:
            inner["enum"] = [inner.pop("const")]
        if "enum" in inner:
            inner["enum"] = [*inner["enum"], None]
    return inner


def example_of(schema: Schema, given: Mapping[str, Any], wrong: set[str]) -> dict[str, Any]:
    """Return arguments that fit: what was given where it was right, a plausible value where it was not."""
    properties: Mapping[str, Schema] = schema.get("properties", {})
    kept = {name: value for name, value in given.items() if name in properties and name not in wrong}
    needed = [name for name in properties if name in schema.get("required", ()) or (name in wrong and name in given)]
    return kept | {name: _value(properties[name]) for name in needed if name not in kept}


def _value(schema: Schema) -> Any:
    for keyword in ("examples", "enum"):
        if schema.get(keyword):
            return schema[keyword][0]
    for keyword in ("const", "default", "minimum"):
        if schema.get(keyword) is not None:
            return schema[keyword]
    return _plain_value(schema)


def _plain_value(schema: Schema) -> Any:
    match schema.get("type"):
        case "integer" | "number":
            return schema.get("exclusiveMinimum", 0) + 1 if schema.get("maximum", 1) >= 1 else schema["maximum"]
        case "boolean":
            return True
        case "array":
            return [_value(schema.get("items", {"type": "string"}))] * max(1, schema.get("minItems", 1))
        case "object":
            return example_of(schema, {}, set())
        case _:
            return _text(schema)


def _text(schema: Schema) -> str:
    text = _TEXTS.get(schema.get("format", ""), "text".ljust(schema.get("minLength", 0), "."))
    return text[: schema.get("maxLength")]
