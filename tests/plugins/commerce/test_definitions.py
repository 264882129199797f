from __future__ import annotations

import json

import pytest

from mercato.plugins.commerce.category import commerce
from mercato.server.mcp.wire import wire_tool

LARGEST_DEFINITION_BYTES = 1_400  # about 350 tokens
NAMES = [
    "cancel_order",
    "get_customer",
    "get_customer_orders",
    "get_inventory",
    "get_order",
    "get_product",
    "list_customers",
    "list_orders",
    "list_products",
    "search_customers",
    "search_orders",
    "update_inventory",
    "update_order_status",
    "update_product",
]


def test_the_category_has_these_tools():
    assert sorted(tool.name for tool in commerce.tools) == NAMES


@pytest.mark.parametrize("tool", commerce.tools, ids=lambda tool: tool.name)
def test_a_definition_is_small_flat_and_described(tool):
    definition = wire_tool(tool).model_dump(by_alias=True, mode="json", exclude_none=True)
    assert definition.pop("outputSchema")["type"] == "object"
    assert len(json.dumps(definition, separators=(",", ":"), ensure_ascii=False)) <= LARGEST_DEFINITION_BYTES
    parameters = definition["inputSchema"]["properties"]
    assert 1 <= len(set(parameters) - {"confirm"}) <= 8
    for name, schema in parameters.items():
        assert schema["description"], name
        assert schema["type"] in {"string", "integer", "boolean"}, name


def _properties(schema):
    for name, child in schema.get("properties", {}).items():
        yield name, child
        yield from _properties(child)
    if "items" in schema:
        yield from _properties(schema["items"])


@pytest.mark.parametrize("tool", commerce.tools, ids=lambda tool: tool.name)
def test_money_is_whole_minor_units_and_nothing_is_a_float(tool):
    for name, schema in [*_properties(tool.output_schema), *_properties(tool.input_schema)]:
        types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        assert "number" not in types, name
        if name.endswith("_minor"):
            assert "integer" in types, name
