"""What holds for every tool that comes with mercato, whoever wrote it."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import re

import pytest
from jsonschema import Draft202012Validator

from mercato.server.mcp.wire import wire_tool
from tests.sources import ROOT

MOST_PARAMETERS, MOST_TOKENS, MOST_TOKENS_IN_ALL = 8, 350, 25_000
UNSAYABLE = ("anyOf", "oneOf", "allOf", "$ref", "$defs")
NAME = re.compile(r"[a-z]+(_[a-z0-9]+)+")


@pytest.fixture(scope="module")
def tools(runtime):
    return dict(sorted(runtime.catalog.tools.items()))


@pytest.fixture(scope="module")
def reference():
    """The script that writes the reference; it has no suffix, as commands have none."""
    path = str(ROOT / "scripts" / "generate-reference")
    loader = importlib.machinery.SourceFileLoader("generate_reference", path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


def _nodes(schema, path=""):
    """Every schema within a schema, with its path; the names of properties are no keywords."""
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from _nodes(inner, f"{path}.{name}".lstrip("."))
    for keyword in ("items", "additionalProperties"):
        if isinstance(schema.get(keyword), dict):
            yield from _nodes(schema[keyword], f"{path}[{keyword}]")


def test_every_tool_is_pinned_by_a_snapshot(tools, assert_tool_snapshot):
    for name in tools:
        assert_tool_snapshot(name)


def test_no_snapshot_is_left_of_a_tool_that_is_gone(tools):
    pinned = {path.stem for path in (ROOT / "tests" / "snapshots" / "tools").glob("*.json")}
    assert pinned - set(tools) == set()


def test_names_are_snake_case_of_at_least_two_words(tools):
    names = [*tools, *(alias for tool in tools.values() for alias in tool.aliases)]
    assert [name for name in names if not NAME.fullmatch(name) or len(name) > 64] == []


def test_every_tool_and_every_parameter_is_described(tools):
    bare = [name for name, tool in tools.items() if len(tool.description) < 20]
    for name, tool in tools.items():
        bare += [
            f"{name}({parameter})"
            for parameter, schema in tool.input_schema["properties"].items()
            if not schema.get("description")
        ]
    assert bare == []


def test_no_tool_has_more_parameters_than_a_model_can_choose_among(tools):
    counts = {name: len(set(tool.input_schema["properties"]) - {"confirm"}) for name, tool in tools.items()}
    assert {name: count for name, count in counts.items() if count > MOST_PARAMETERS} == {}


def test_input_schemas_are_flat_closed_objects_without_unions(tools):
    wrong = []
    for name, tool in tools.items():
        Draft202012Validator.check_schema(tool.input_schema)
        if tool.input_schema["type"] != "object" or tool.input_schema["additionalProperties"] is not False:
            wrong.append(name)
        for path, schema in _nodes(tool.input_schema):
            if any(keyword in schema for keyword in UNSAYABLE) or isinstance(schema.get("type"), list):
                wrong.append(f"{name}: {path}")
            if "default" in schema and schema["default"] is None:
                wrong.append(f"{name}: {path} is null by default")
    assert wrong == []


def test_output_schemas_are_objects_without_references(tools):
    wrong = []
    for name, tool in tools.items():
        Draft202012Validator.check_schema(tool.output_schema)
        if tool.output_schema["type"] != "object":
            wrong.append(name)
        wrong += [
            f"{name}: {path}"
            for path, schema in _nodes(tool.output_schema)
            if any(keyword in schema for keyword in UNSAYABLE)
        ]
    assert wrong == []


def test_title_and_all_four_hints_are_on_the_wire(tools):
    for tool in tools.values():
        wire = wire_tool(tool).model_dump(by_alias=True, exclude_none=True)
        assert wire["title"]
        assert set(wire["annotations"]) == {
            "title",
            "readOnlyHint",
            "destructiveHint",
            "idempotentHint",
            "openWorldHint",
        }


def test_no_tool_costs_more_than_a_model_should_spend_on_it(tools, reference):
    costs = {name: reference.costs(tool)[0] for name, tool in tools.items()}
    assert {name: cost for name, cost in costs.items() if cost > MOST_TOKENS} == {}
    assert sum(costs.values()) <= MOST_TOKENS_IN_ALL


@pytest.mark.parametrize("name", ["tools.md", "events-and-jobs.md"])
def test_the_pages_of_the_reference_are_what_the_script_writes(reference, name):
    path = reference.FOLDER / name
    assert path.read_text(encoding="utf-8") == reference.pages()[path], "run scripts/generate-reference"


def test_a_page_tells_of_every_event_and_job(reference):
    text = (reference.FOLDER / "events-and-jobs.md").read_text(encoding="utf-8")
    declared = [one.name for plugin in reference.built_ins() for one in (*plugin.events, *plugin.jobs)]
    assert [name for name in declared if f"`{name}`" not in text] == []


async def test_every_tool_is_listed_to_an_owner_and_refuses_what_it_does_not_know(tools, mcp):
    listed = {tool.name for tool in (await mcp.list_tools()).tools}
    assert listed == {name for name, tool in tools.items() if not tool.requires}
    for name in listed:
        result = await mcp.call_tool(name, {"there_is_no_such_parameter": 1})
        assert result.is_error, name
        assert "`there_is_no_such_parameter` is no parameter of this tool" in result.content[0].text
