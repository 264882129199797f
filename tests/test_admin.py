from __future__ import annotations

import ast
from pathlib import Path

import pytest

from mercato import admin
from mercato.tools.errors import ToolError

BELOW = ("mercato.tenancy", "mercato.tools", "mercato.plugins")


def _imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield from (
                [f"{node.module}.{name.name}" for name in node.names] if node.module == "mercato" else [node.module]
            )
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def _of_ours(path):
    return {name for name in _imported(path) if name.partition(".")[0] == "mercato"}


def test_the_names_are_sorted_and_all_there():
    constants = [name for name in admin.__all__ if name.isupper()]
    classes = [name for name in admin.__all__ if name[0].isupper() and not name.isupper()]
    functions = [name for name in admin.__all__ if name.islower()]
    assert admin.__all__ == [*sorted(constants), *sorted(classes), *sorted(functions)]
    assert all(hasattr(admin, name) for name in admin.__all__)


def test_it_stands_on_what_is_below_it_and_never_on_the_server():
    assert all(name.startswith(BELOW) for name in _of_ours(Path(admin.__file__)))


def test_the_system_plugin_needs_nothing_but_the_two_public_modules():
    import mercato
    from mercato.plugins import system

    for path in Path(system.__path__[0]).glob("*.py"):
        for name in _of_ours(path):
            own = name.startswith("mercato.plugins.system")
            public = name.removeprefix("mercato.") in [*mercato.__all__, "admin"]
            assert own or public, f"{path.name} imports {name}"


async def test_what_a_tool_sees_can_be_had_by_any_plugin(ctx, tenant):
    assert {service.service for service in await admin.probe(ctx)} == {"database", "cache"}
    assert [service.service for service in await admin.probe(ctx, "cache")] == ["cache"]
    assert "system" in {plugin.name for plugin in admin.loaded_plugins(ctx)}
    assert list(admin.disabled_plugins(ctx)) == []
    assert [person.role for person in (await admin.list_users(ctx)).items] == ["owner"]
    assert [entry.action for entry in (await admin.list_audit_entries(ctx)).items] == ["tenant.create"]
    assert {section.name for section in await admin.read_config(ctx)} >= {"profile"}
    assert (await admin.switched_on(ctx))[1] == []


async def test_an_update_is_seen_by_the_same_transaction_and_told_only_after_it(ctx):
    changed, section = await admin.update_config(ctx, "profile", {"currency": "EUR"})
    assert [(one.key, one.old, one.new) for one in changed] == [("currency", "USD", "EUR")]
    assert section.values["currency"] == "EUR"
    assert (await admin.read_config(ctx, "profile"))[0].values["currency"] == "EUR"
    assert len(ctx._after_commit) == 1


async def test_somebody_who_is_not_here_is_an_error_that_names_the_field(ctx):
    with pytest.raises(ToolError) as error:
        await admin.find_user(ctx, 2**53 - 1)
    assert error.value.field == "user_id"
