"""Which tools some words find."""

from __future__ import annotations

from typing import Annotated

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from mercato import Category, ToolContext
from mercato.plugins.catalog import Catalog
from mercato.plugins.manager import Plugins, discover
from mercato.plugins.search import Index
from mercato.plugins.tool_search import MOST_HITS, find
from mercato.tenancy.memberships import Role
from tests.plugins.seen import catalog_of, seen


class Answer(BaseModel):
    text: str


shop = Category("shop", "What is sold.")
staff = Category("staff", "Who works here.")


@shop.tool(read_only=True, aliases=("find_parcel",))
async def track_shipment(
    ctx: ToolContext, carrier: Annotated[str, Field(description="Who brings it, such as Hermes.")]
) -> Answer:
    """Tell where a delivery is."""
    return Answer(text="here")


@shop.tool(read_only=False, title="Give money back", open_world=True)
async def refund_order(ctx: ToolContext, order_id: int) -> Answer:
    """Return what was paid."""
    return Answer(text="done")


@shop.tool(read_only=False, destructive=True, idempotent=True)
async def delete_order(ctx: ToolContext, order_id: int) -> Answer:
    """Remove an order for good."""
    return Answer(text="done")


@staff.tool(read_only=True)
async def list_people(ctx: ToolContext) -> Answer:
    """Tell who works here."""
    return Answer(text="nobody")


@staff.tool(read_only=True, admin=True)
async def list_salaries(ctx: ToolContext) -> Answer:
    """Tell the compensation of everybody who works here."""
    return Answer(text="none")


@staff.tool(read_only=True, requires=("payroll",))
async def export_payroll(ctx: ToolContext) -> Answer:
    """Export the payroll."""
    return Answer(text="none")


CATALOG = catalog_of(shop, staff)
BUILT_IN = Plugins(strict=True)
BUILT_IN.load(found for found in discover() if found.built_in)


def found(query, **caller):
    return [hit.name for hit in find(seen(CATALOG, **caller), query).tools]


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("track_shipment", "track_shipment"),
        ("  Track_Shipment ", "track_shipment"),
        ("where is the delivery", "track_shipment"),
        ("give money back", "refund_order"),
        ("carrier", "track_shipment"),
        ("hermes", "track_shipment"),
        ("find_parcel", "track_shipment"),
        ("shipments", "track_shipment"),
        ("ship", "track_shipment"),
        ("shpiment", "track_shipment"),
        ("salary", "list_salaries"),
        ("how do I delete an order", "delete_order"),
    ],
)
def test_a_tool_is_found_by_the_words_of_its_name_title_description_and_parameters(query, name):
    assert found(query)[0] == name


def test_a_category_finds_its_tools():
    assert set(found("staff")) == {"list_people", "list_salaries"}


def test_a_hit_says_what_runs_it_and_what_it_takes():
    [hit] = find(seen(CATALOG), "delete_order", 1).tools
    assert hit.model_dump() == {
        "name": "delete_order",
        "execute": "execute_write",
        "description": "Remove an order for good.",
        "input_schema": CATALOG.tools["delete_order"].input_schema,
        "hints": ["destructive", "idempotent"],
    }
    assert "confirm" in hit.input_schema["properties"]
    assert find(seen(CATALOG), "track_shipment", 1).tools[0].execute == "execute_read"


def test_what_is_left_out_is_counted():
    result = find(seen(CATALOG), "order", 1)
    assert ([hit.name for hit in result.tools], result.left_out) == (["delete_order"], 1)
    assert result.categories == []


@pytest.mark.parametrize("query", ["", " ", "?!", "xylophone"])
def test_words_that_find_nothing_tell_the_categories_and_how_much_is_in_each(query):
    result = find(seen(CATALOG), query)
    assert (result.tools, result.left_out) == ([], 0)
    assert [(one.category, one.description, one.tools) for one in result.categories] == [
        ("shop", "What is sold.", 3),
        ("staff", "Who works here.", 2),
    ]


def test_a_tool_that_the_gate_hides_is_neither_shown_nor_counted():
    for query in ("list_salaries", "compensation", "people works here"):
        result = find(seen(CATALOG, role=Role.MEMBER), query, 1)
        assert "salaries" not in result.model_dump_json()
        assert result.left_out == 0
    assert {one.category: one.tools for one in find(seen(CATALOG, role=Role.MEMBER), "").categories}["staff"] == 1


def test_a_word_that_only_hidden_tools_have_stands_for_what_is_like_it():
    assert found("payrole", integrations=frozenset({"payroll"})) == ["export_payroll"]
    assert found("payroll") == []
    assert found("salaries", disabled_tools=frozenset({"list_salaries"})) == []


def test_the_order_of_declaration_does_not_matter():
    tools = list(CATALOG.tools.values())
    for query in ("order", "list", "here", "who works"):
        assert Index(tools).ranked(query, CATALOG.tools) == Index(tools[::-1]).ranked(query, CATALOG.tools)


def test_definitions_that_are_too_long_together_are_left_out_but_one_is_always_there():
    wordy = Category("wordy", "Long definitions.")

    def declare(number):
        async def talk(ctx: ToolContext, topic: Annotated[str, Field(description="word " * 2_000)]) -> Answer:
            """Talk."""
            return Answer(text="")

        talk.__name__ = f"talk_{number}"
        wordy.tool(read_only=True)(talk)

    for number in range(4):
        declare(number)
    result = find(seen(catalog_of(wordy)), "talk")
    assert len(result.tools) == 1
    assert result.left_out == 3
    assert len(result.model_dump_json()) < 20_000


@given(query=st.text(max_size=200), limit=st.integers(1, MOST_HITS))
@example(query="\ud800", limit=5)
@example(query="order " * 33, limit=5)
def test_any_words_find_only_what_is_there_and_never_fail(query, limit):
    result = find(seen(CATALOG), query, limit)
    assert len(result.tools) <= limit
    assert {hit.name for hit in result.tools} <= set(CATALOG.tools)
    assert result == find(seen(CATALOG), query, limit)


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("cancel an order", "cancel_order"),
        ("what are our newest orders", "list_orders"),
        ("how much stock is left", "get_inventory"),
        ("set inventory level", "update_inventory"),
        ("who changed something: audit", "get_audit_log"),
        ("find customer by email", "search_customers"),
        ("is the server healthy", "get_system_health"),
        ("change the time zone setting", "update_tenant_config"),
    ],
)
def test_what_people_ask_of_the_built_in_tools_is_among_the_first_three(query, name):
    result = find(seen(Catalog(BUILT_IN.loaded.values())), query)
    assert name in [hit.name for hit in result.tools[:3]]
    assert len(orjson.dumps(result.model_dump())) < 2_000 * 3.9
