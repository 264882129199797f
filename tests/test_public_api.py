"""What plugins are written against, pinned: a change here is a change for everybody who has written one."""

from __future__ import annotations

import ast
import dataclasses
import inspect
from pathlib import Path

import pytest

import mercato
from mercato import Context, Principal, Tenant, ToolContext
from mercato.plugins import hookspecs
from mercato.testing import fixtures
from mercato.testing.snapshots import assert_snapshot
from tests.sources import ROOT

SNAPSHOTS = Path(__file__).parent / "snapshots"


def fields(model):
    return [field.name for field in dataclasses.fields(model) if not field.name.startswith("_")]


def properties(context):
    return [name for name, value in vars(context).items() if isinstance(value, property) and not name.startswith("_")]


def test_the_names_are_sorted_and_there_are_no_others():
    assert mercato.__all__ == sorted(mercato.__all__)
    assert dir(mercato) == mercato.__all__
    assert sorted(mercato._HOME_OF) == mercato.__all__


@pytest.mark.parametrize("name", mercato.__all__)
def test_a_name_resolves(name):
    assert getattr(mercato, name) is not None


def test_what_type_checkers_see_is_what_there_is():
    tree = ast.parse(Path(mercato.__file__).read_text())
    seen = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mercato.")
        for alias in node.names
    }
    assert seen == mercato._HOME_OF


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = mercato.nonsense


def test_every_public_class_and_function_says_what_it_is_for():
    undocumented = [
        name
        for name in mercato.__all__
        if (inspect.isclass(getattr(mercato, name)) or inspect.isfunction(getattr(mercato, name)))
        and not (getattr(mercato, name).__doc__ or "").strip()
    ]
    assert undocumented == []


def test_the_signatures_of_hooks_and_of_what_declares_are_pinned():
    declaring = {
        "Category": mercato.Category,
        "Category.tool": mercato.Category.tool,
        "Category.raw_tool": mercato.Category.raw_tool,
        "Category.resource": mercato.Category.resource,
        "Category.prompt": mercato.Category.prompt,
        "Importer": mercato.Importer,
        "PluginSettings": mercato.PluginSettings,
        "Reply": mercato.Reply,
        "ToolError": mercato.ToolError,
    }
    hooks = {name: hook for name, hook in vars(hookspecs).items() if name.startswith("register_")}
    pinned = {name: str(inspect.signature(thing)) for name, thing in (declaring | hooks).items()}
    assert_snapshot(SNAPSHOTS / "signatures.json", pinned)


def test_the_fields_of_contexts_are_pinned():
    assert properties(Context) == ["tenant", "db", "http", "log"]
    assert properties(ToolContext) == ["user"]
    assert {name for name in vars(ToolContext) | vars(Context) if not name.startswith("_")} == {
        *properties(Context),
        *properties(ToolContext),
        "connection",
        "spend",
        "settings",
        "progress",
        "ask",
    }


def test_the_fields_of_who_calls_and_for_whom_are_pinned():
    assert fields(Tenant) == ["id", "slug", "name", "currency", "timezone"]
    assert fields(Principal) == [
        "tenant_id",
        "user_id",
        "role",
        "scopes",
        "categories",
        "kind",
        "credential_id",
        "client_id",
        "grant_id",
        "expires_at",
    ]


@pytest.mark.parametrize("model", [Principal, Tenant])
def test_who_calls_and_for_whom_is_frozen(model):
    assert model.__dataclass_params__.frozen


@pytest.mark.parametrize("name", ["tenant", "db", "http", "log", "user"])
async def test_what_a_tool_holds_cannot_be_exchanged(ctx, name):
    with pytest.raises(AttributeError):
        setattr(ctx, name, None)
    with pytest.raises(AttributeError):
        ctx.more = None


def test_the_kit_has_the_fixtures_that_it_names():
    promised = {
        "tenant",
        "other_tenant",
        "mcp",
        "other_mcp",
        "tasks",
        "other_tasks",
        "ctx",
        "http",
        "connect",
        "run_jobs",
        "assert_tool_snapshot",
    }
    assert promised <= set(vars(fixtures))


def test_the_plugin_in_the_repository_is_found_under_its_entry_point():
    project = (ROOT / "extensions" / "hello" / "pyproject.toml").read_text()
    assert '[project.entry-points."mercato.plugins"]\nhello = "hello"' in project
