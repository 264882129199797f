"""Plugins from outside that are wrong in one way each: they are left out and named, and all else serves."""

from __future__ import annotations

from pathlib import Path

import asyncpg
import httpx
import pytest
from pydantic import BaseModel

from mercato import Category, ToolContext
from mercato.plugins import manager
from mercato.plugins.validation import check_categories
from mercato.server import runtime as runtime_module
from mercato.server.runtime import open_runtime
from mercato.server.settings import Settings
from tests.inmemory import client_of, plugin

HOSTILE = Path(__file__).parent / "hostile"

# name: (stage, what the reason says)
FAILURES = {
    "commerce": ("discover", "ValueError: the plugin name 'commerce' is taken"),
    "Not-Snake": ("discover", "ValueError: the plugin name 'Not-Snake' must be snake_case"),
    "mercato": ("discover", "ValueError: the plugin name 'mercato' is taken"),
    "pg_own": ("discover", "ValueError: the plugin name 'pg_own' must be snake_case"),
    "public": ("discover", "ValueError: the plugin name 'public' is taken"),
    "import_error": ("import", "ModuleNotFoundError: No module named 'there_is_no_such_module'"),
    "exit_at_import": ("import", "SystemExit: 3"),
    "unprintable_error": ("import", "UnprintableError: no reason given"),
    "late_intruder": ("import", "RuntimeError: and then it fails"),
    "output_is_a_list": ("import", "SchemaError: the tool answer_many: a tool must return a model"),
    "no_output_model": ("import", "TypeError: the tool answer_any must say that it returns a pydantic model"),
    "raw_schema_no_object": ("import", "SchemaError: the input schema of answer_raw must have the type `object`"),
    "sync_tool": ("import", "TypeError: the tool answer_now must be an `async def` function"),
    "union_parameter": ("import", "SchemaError: the tool answer_either: `which`: a union of types cannot be said"),
    "untyped_parameter": ("import", "TypeError: the parameter `name` of answer_untyped must have a type"),
    "not_a_module": ("import", "AttributeError: module 'hostile' has no attribute 'there_is_none'"),
    "hook_unknown": ("register", "PluginValidationError: unknown hook 'register_categorys'"),
    "hook_takes_arguments": ("register", "PluginValidationError: Plugin 'hook_takes_arguments' for hook"),
    "hook_raises": ("collect", "RuntimeError: the hook raised, over two lines"),
    "hook_exits": ("collect", "SystemExit: gone"),
    "hook_returns_category": ("collect", "TypeError: register_categories must return a list of Category, not Category"),
    "hook_returns_strings": ("collect", "TypeError: register_categories must return Category, not str"),
    "hook_is_generator": ("collect", "TypeError: register_categories must return a list of Category, not generator"),
    "hook_returns_text": ("collect", "TypeError: register_migrations must return Path, not str"),
    "migrations_missing": ("collect", "TypeError: register_migrations must return a folder; there is none"),
    "settings_without_default": ("collect", "TypeError: the tenant setting `threshold` needs a default"),
    "duplicate_built_in": ("validate", "ValueError: the tool 'builtin_probe' is already contributed by commerce"),
    "duplicate_tool": ("validate", "ValueError: the tool 'stand_by' is already contributed by a_bystander"),
    "duplicate_alias": ("validate", "ValueError: the tool 'stand_by' is already contributed by a_bystander"),
    "tool_named_as_alias": ("validate", "ValueError: the tool 'stood_by' is already contributed by a_bystander"),
    "duplicate_category": ("validate", "ValueError: the category 'bystander' is already contributed by a_bystander"),
    "duplicate_resource": ("validate", "ValueError: the resource 'bystander://state' is already contributed by"),
    "duplicate_prompt": ("validate", "ValueError: the prompt 'ask_to_stand' is already contributed by a_bystander"),
    "half_an_error": ("import", r"RuntimeError: half \ud800 a character"),
    "default_not_json": ("validate", "TypeError: the default of the tenant setting `thing` is not JSON: Unable to"),
    "default_half": ("validate", "TypeError: the default of the tenant setting `greeting` is not JSON: "),
    "settings_schema_half": ("validate", "TypeError: the schema of the tenant settings is not JSON: "),
    "settings_no_object": ("validate", "TypeError: the default of the tenant setting `root` is not JSON: "),
    "meta_not_json": ("validate", "TypeError: the `meta` of the tool meta_not_json is not JSON: "),
    "meta_no_mapping": ("validate", "TypeError: the tool meta_no_mapping: `meta` must be a mapping, not int"),
    "raw_schema_not_json": ("validate", "TypeError: the input schema of the tool raw_schema_not_json is not JSON: "),
    "raw_schema_broken": (
        "validate",
        "SchemaError: the input schema of raw_schema_broken is no JSON Schema: ['properties'] 5 is not of type",
    ),
    "output_schema_broken": ("validate", "SchemaError: the output schema of output_schema_broken is no JSON Schema: "),
    "tool_title_half": ("validate", "ValueError: the tool tool_title_half: the title holds half a character"),
    "tool_title_long": ("validate", "ValueError: the tool tool_title_long: the title has 121 characters; 120 are"),
    "tool_title_number": ("validate", "TypeError: the tool tool_title_number: the title must be a text, not int"),
    "tool_says_half": ("validate", "ValueError: the tool tool_says_half: the description holds half a character"),
    "tool_says_too_much": ("validate", "the description has 2,001 characters; 2,000 are the most"),
    "parameter_half": ("validate", "TypeError: the input schema of the tool parameter_half is not JSON: "),
    "definition_too_large": ("validate", "ValueError: the input schema of the tool definition_too_large takes "),
    "hint_no_bool": ("validate", "TypeError: the tool hint_no_bool: `open_world` must be true or false"),
    "requires_number": ("validate", "TypeError: the tool requires_number: `requires` must be a tuple of names"),
    "requires_list_in_it": ("validate", "TypeError: the tool requires_list_in_it: `requires` must be a tuple of names"),
    "alias_half": ("validate", "TypeError: the tool alias_half: `aliases` must be a tuple of names"),
    "category_half": ("validate", "ValueError: the category category_half: the description holds half a character"),
    "category_says_too_much": ("validate", "the description has 501 characters; 500 are the most"),
    "category_holds_text": ("validate", "TypeError: the tools of the category category_holds_text hold a str"),
    "resource_uri_half": ("validate", r"TypeError: the resource 'half://half \ud800' is not JSON: "),
    "resource_title_half": ("validate", "ValueError: the resource 'half://title': the title holds half a character"),
    "resource_says_half": ("validate", "ValueError: the resource 'half://text': the description holds half a"),
    "resource_type_number": ("validate", "TypeError: the resource 'half://type': the mime_type must be a text"),
    "resource_requires_number": ("validate", "TypeError: the resource 'half://requires': `requires` must be a tuple"),
    "prompt_title_half": ("validate", "ValueError: the prompt 'prompt_title_half': the title holds half a character"),
    "prompt_says_half": ("validate", "ValueError: the prompt 'prompt_says_half': the description holds half a"),
    "prompt_says_too_much": ("validate", "the description has 2,001 characters; 2,000 are the most"),
    "prompt_argument_half": ("validate", "TypeError: the prompt 'prompt_argument_half' is not JSON: "),
    "prompt_argument_number": ("validate", "the argument `word` of the prompt 'prompt_argument_number': the desc"),
    "migration_exits": ("migrate", "SystemExit: gone in the middle"),
    "migration_fails": ("migrate", 'relation "half" already exists'),
    "migration_unreadable": ("migrate", "ModuleNotFoundError: No module named 'there_is_no_such_module'"),
    "settings_unfit": ("settings", "SettingsError: MERCATO_SETTINGS_UNFIT_SECRET must be a whole number."),
}
ELSEWHERE = {
    "commerce": "hostile.duplicate_tool",
    "Not-Snake": "hostile.duplicate_tool",
    "mercato": "hostile.duplicate_tool",
    "pg_own": "hostile.duplicate_tool",
    "public": "hostile.duplicate_tool",
    "not_a_module": "hostile:there_is_none",
}
UNFIT = [name for name, (stage, _) in FAILURES.items() if stage == "validate" and not (HOSTILE / f"{name}.py").exists()]
ELSEWHERE |= {name: f"hostile.unfit:{name}" for name in UNFIT}

built_in = Category("commerce", "Stands for what is built in.")


class Probed(BaseModel):
    text: str


@built_in.tool(read_only=True)
async def builtin_probe(ctx: ToolContext) -> Probed:
    """Probe."""
    return Probed(text=ctx.tenant.name)


@pytest.fixture(scope="module")
async def besieged(anyio_backend, installed, mercato_addresses, tmp_path_factory):
    """A runtime with one built-in plugin, one from outside that is in order, and all the hostile ones.

    The check in a process of its own is left out: it would refuse most of them before they could do harm.
    """
    points = [f"{name} = {ELSEWHERE[name]}" if name in ELSEWHERE else name for name in FAILURES]
    installed.install("hostile-plugins", ["a_bystander", *points])
    found = [plugin("commerce", register_categories=[built_in]), *installed.found()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MERCATO_SETTINGS_UNFIT_SECRET", "sk_live_do_not_show")
        patch.setattr(runtime_module, "refused_plugins", lambda *_: {})
        settings = Settings(data_dir=tmp_path_factory.mktemp("data"))
        async with open_runtime(settings, mercato_addresses, found=found) as runtime:
            yield runtime


@pytest.fixture
async def client(besieged, new_tenant):
    async with client_of(besieged, await new_tenant(besieged)) as client:
        yield client


@pytest.mark.parametrize("name", FAILURES)
def test_a_hostile_plugin_is_left_out_and_named_with_stage_and_reason(besieged, name):
    [failure] = [failure for failure in besieged.plugins.failures if failure.plugin == name]
    stage, reason = FAILURES[name]
    assert failure.stage == stage
    assert reason in failure.reason
    assert "Traceback" not in failure.reason
    assert "\n" not in failure.reason


def test_nothing_else_fails(besieged):
    assert {failure.plugin for failure in besieged.plugins.failures} == set(FAILURES)
    assert set(besieged.plugins.loaded) == {"commerce", "a_bystander"}


def test_the_reason_does_not_show_what_the_environment_held(besieged):
    assert not any("sk_live_do_not_show" in failure.reason for failure in besieged.plugins.failures)


async def test_every_tool_of_the_others_is_listed_and_works(client):
    listed = {tool.name for tool in (await client.list_tools()).tools}
    assert listed == {"stand_by", "builtin_probe"}
    for name in ("stand_by", "stood_by", "builtin_probe"):
        assert (await client.call_tool(name)).structured_content == {"text": "Acme"}


async def test_resources_and_prompts_of_the_others_are_those_they_declared(client):
    [content] = (await client.read_resource("bystander://state")).contents
    [message] = (await client.get_prompt("ask_to_stand")).messages
    assert (content.text, message.content.text) == ("standing", "Stand by.")


async def test_a_failed_migration_leaves_no_schema_and_the_others_theirs(besieged, mercato_addresses):
    connection = await asyncpg.connect(mercato_addresses.database_url)
    schemas = {row["nspname"] for row in await connection.fetch("select nspname from pg_namespace")}
    await connection.close()
    assert "a_bystander" in schemas
    assert not schemas & {"migration_fails", "migration_exits", "migration_unreadable"}


async def test_a_plugin_may_add_nothing_to_another_once_that_is_loaded(besieged):
    import hostile.a_bystander

    assert [tool.name for tool in hostile.a_bystander.bystander.tools] == ["stand_by", "intrude"]
    assert "intrude" not in besieged.catalog.tools


async def test_the_readiness_page_names_them_to_anybody_without_the_reason(besieged):
    from starlette.applications import Starlette
    from starlette.routing import Route

    from mercato.server.app import _readyz

    app = Starlette(routes=[Route("/readyz", _readyz)])
    app.state.runtime = besieged
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as http:
        answer = await http.get("/readyz")
    assert answer.status_code == 200
    disabled = answer.json()["plugins"]["disabled"]
    assert {entry["plugin"] for entry in disabled} == set(FAILURES)
    assert "reason" not in disabled[0]


def test_a_blocked_plugin_is_not_even_imported(installed):
    plugins = manager.Plugins(blocked=["late_intruder", "import_error"])
    plugins.load(installed.found("late_intruder", "import_error"))
    assert (plugins.loaded, plugins.failures) == ({}, [])


def test_what_is_built_in_passes_the_deep_check_too():
    plugins = manager.Plugins(strict=True)
    plugins.load(found for found in manager.discover() if found.built_in)
    for loaded in plugins.loaded.values():
        check_categories(loaded.categories, deeply=True)


def test_in_strict_mode_the_first_failure_raises(installed):
    with pytest.raises(ModuleNotFoundError):
        manager.Plugins(strict=True).load(installed.found("import_error"))
