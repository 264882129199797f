"""What holds for the whole package: who imports whom, how long things are, where the edges of the process are."""

from __future__ import annotations

import ast
import re

import pytest

import mercato
from mercato.plugins import hookspecs
from tests.sources import ROOT, Source, built_ins, functions, sources

MAY_IMPORT = {
    "tenancy": {"tenancy"},
    "migrations": {"migrations"},
    "tools": {"tools", "tenancy"},
    "resources": {"resources", "tools", "tenancy"},
    "prompts": {"prompts", "tools", "tenancy"},
    "plugins": {"plugins", "resources", "prompts", "tools", "tenancy"},
    "admin": {"plugins", "resources", "prompts", "tools", "tenancy"},
    "__init__": {"plugins", "resources", "prompts", "tools", "tenancy", "migrations"},
    "server": {"server", "plugins", "resources", "prompts", "tools", "tenancy", "migrations", "__init__"},
    "testing": {"testing", "server", "plugins", "resources", "prompts", "tools", "tenancy", "migrations", "__init__"},
}
ADMINISTER = {"system"}
PLUGIN_EDGES: set[tuple[str, str]] = set()
"""A built-in plugin, and the one whose package root it imports."""
READ_THE_ENVIRONMENT = (
    "mercato/server/settings.py",
    "mercato/server/contexts.py",
    "mercato/server/engines/",
    "mercato/server/cli/",
    "mercato/testing/",
)
WRITE_TO_STDOUT = ("mercato/server/cli/", "mercato/server/engines/", "mercato/plugins/check.py")
LONGEST_FILE, LONGEST_FUNCTION = 400, 60


def part_of(name: str) -> str:
    """The part of the map that an imported name belongs to."""
    parts = name.split(".")
    if parts[1:2] == ["plugins"] and len(parts) > 2 and parts[2] in built_ins():
        return f"plugin:{parts[2]}"
    if len(parts) == 1 or parts[1] in mercato.__all__:
        return "__init__"
    return parts[1]


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_a_part_imports_only_what_is_below_it(part):
    wrong = {
        f"{source.name} imports {name}"
        for source in sources()
        if source.part == part
        for name in source.imports
        if part_of(name) not in MAY_IMPORT[part]
    }
    assert not wrong


def test_every_part_has_its_rule():
    parts = {source.part for source in sources() if not source.part.startswith("plugin:")}
    assert parts == set(MAY_IMPORT)


@pytest.mark.parametrize("plugin", built_ins())
def test_a_built_in_plugin_is_made_of_what_any_plugin_may_use(plugin):
    public = {f"mercato.{name}" for name in mercato.__all__}
    if plugin in ADMINISTER:
        public |= {f"mercato.{name}" for name in ("admin",)}
    wrong = set()
    for source in sources():
        if source.part == f"plugin:{plugin}":
            for name in source.imports - public:
                own = name.startswith(f"mercato.plugins.{plugin}.")
                administers = plugin in ADMINISTER and name.startswith("mercato.admin.")
                if not own and not administers and not _is_a_root(name):
                    wrong.add(f"{source.name} imports {name}")
    assert not wrong


def _is_a_root(name: str) -> bool:
    """Whether it is another plugin's package, or a name that this shows in its root."""
    return part_of(name).startswith("plugin:") and len(name.split(".")) <= 4


def test_the_edges_between_plugins_are_those_on_the_list():
    edges = {
        (source.part.removeprefix("plugin:"), part_of(name).removeprefix("plugin:"))
        for source in sources()
        for name in source.imports
        if source.part.startswith("plugin:") and part_of(name).startswith("plugin:")
    }
    assert {(importer, imported) for importer, imported in edges if importer != imported} == PLUGIN_EDGES


def test_the_server_names_no_built_in_plugin():
    wrong = set()
    for source in sources():
        if source.part in {"server", "testing"}:
            wrong |= {f"{source.name}: {name}" for name in source.imports if part_of(name).startswith("plugin:")}
            for node in ast.walk(source.tree):
                if isinstance(node, ast.Constant) and node.value in set(built_ins()) - {"system"}:
                    wrong.add(f"{source.name}:{node.lineno} says {node.value!r}")
    assert not wrong


def _named(source: Source, wanted: set[str]) -> set[str]:
    return {
        f"{source.name}:{node.lineno}"
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Attribute | ast.Name) and ast.unparse(node) in wanted
    }


def test_the_environment_is_read_in_one_place_and_passed_down():
    found = [_named(source, {"os.environ", "os.getenv", "environ"}) for source in sources()]
    places = set().union(*found)
    assert {place for place in places if not place.startswith(READ_THE_ENVIRONMENT)} == set()


def test_only_commands_write_to_stdout():
    found = [_named(source, {"print", "sys.stdout", "sys.stderr"}) for source in sources()]
    places = {place for place in set().union(*found) if not place.startswith("mercato/server/logs.py")}
    assert {place for place in places if not place.startswith(WRITE_TO_STDOUT)} == set()


def test_whatever_catches_everything_raises_it_again_or_says_why_not():
    wrong = set()
    for source in sources():
        lines = source.text.splitlines()
        for node in ast.walk(source.tree):
            if isinstance(node, ast.ExceptHandler) and _catches_everything(node) and not _raises_again(node):
                _, _, comment = lines[node.lineno - 1].partition("#")
                if not re.sub(r"noqa: [A-Z0-9, ]+", "", comment).strip(" #"):
                    wrong.add(f"{source.name}:{node.lineno}")
    assert not wrong


def _catches_everything(node: ast.ExceptHandler) -> bool:
    return node.type is None or any(
        isinstance(name, ast.Name) and name.id in {"Exception", "BaseException"} for name in ast.walk(node.type)
    )


def _raises_again(node: ast.ExceptHandler) -> bool:
    return any(isinstance(inner, ast.Raise) and inner.exc is None for inner in ast.walk(node))


def test_files_and_functions_are_short():
    wrong = {source.name for source in sources() if len(source.text.splitlines()) > LONGEST_FILE}
    for source in sources():
        for function in functions(source):
            if (function.end_lineno or 0) - function.lineno + 1 > LONGEST_FUNCTION:
                wrong.add(f"{source.name}:{function.lineno} {function.name}")
    assert not wrong


def test_nothing_is_called_after_what_it_is_not():
    vague = {"utils", "util", "helpers", "helper", "common", "misc"}
    assert {source.name for source in sources() if source.path.stem in vague} == set()


HOOKS = sorted(name for name in vars(hookspecs) if name.startswith("register_"))


def _decorated(source: Source) -> set[str]:
    return {
        function.name
        for function in functions(source)
        if any("hookimpl" in ast.unparse(decorator) for decorator in function.decorator_list)
    }


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_says_what_it_returns(hook):
    function = getattr(hookspecs, hook)
    assert function.__doc__.startswith("Return ")
    assert function.__annotations__["return"] != "None"


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_is_used_by_a_plugin_that_comes_with_mercato(hook):
    users = [source.name for source in sources() if source.part.startswith("plugin:") and hook in _decorated(source)]
    assert users, f"no built-in plugin implements {hook}: a hook without a user does not exist"


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_is_explained_to_those_who_write_plugins(hook):
    page = ROOT / "docs" / "write-a-plugin.md"
    assert page.exists(), "docs/write-a-plugin.md is missing: it explains every hook to those who write plugins"
    assert f"`{hook}`" in page.read_text(encoding="utf-8"), f"docs/write-a-plugin.md does not name `{hook}`"


def test_a_built_in_plugin_implements_its_hooks_in_its_root_alone():
    wrong = {
        source.name
        for source in sources()
        if source.part.startswith("plugin:") and _decorated(source) and source.path.parent.parent.name != "plugins"
    }
    assert not wrong
