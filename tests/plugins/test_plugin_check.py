"""The check in a process of its own: what ends a process, or never returns, is found before it is imported here."""

from __future__ import annotations

import json
import sys

import pytest

from mercato.plugins import check
from mercato.plugins.check import check_plugin, refused_plugins
from mercato.server.runtime import open_runtime
from mercato.server.settings import Settings
from tests.inmemory import client_of

POINTS = (
    "a_bystander",
    "default_not_json = hostile.unfit:default_not_json",
    "ends_the_process",
    "half_an_error",
    "hook_raises",
    "interrupted",
    "never_returns",
    "noisy",
    "raw_schema_broken = hostile.unfit:raw_schema_broken",
)


@pytest.fixture(scope="module")
def hostile(installed):
    installed.install("hostile-to-processes", POINTS)
    return installed


@pytest.fixture
def checked(monkeypatch):
    """The plugins whose check was run, instead of a process for each."""
    names = []
    monkeypatch.setattr(check, "check_plugin", lambda name: names.append(name))
    return names


async def test_the_server_starts_beside_a_plugin_that_would_end_the_process(
    hostile, mercato_addresses, tmp_path, new_tenant
):
    found = hostile.found("a_bystander", "ends_the_process")
    async with open_runtime(Settings(data_dir=tmp_path), mercato_addresses, found=found) as runtime:
        [failure] = runtime.plugins.failures
        assert (failure.plugin, failure.stage) == ("ends_the_process", "check")
        assert failure.reason == "its import ended the process (exit code 0)"
        assert "hostile.ends_the_process" not in sys.modules
        async with client_of(runtime, await new_tenant(runtime)) as client:
            assert (await client.call_tool("stand_by")).structured_content == {"text": "Acme"}


def test_a_plugin_that_interrupts_its_import_is_refused(hostile):
    assert check_plugin("interrupted").startswith("its import ended the process (exit code ")


def test_a_plugin_whose_import_never_returns_is_refused_after_a_while(hostile, monkeypatch):
    monkeypatch.setattr(check, "TIMEOUT_S", 2)
    assert check_plugin("never_returns") == "its import did not end within 2 seconds"


def test_a_plugin_that_raises_is_refused_with_the_stage_and_its_own_words(hostile):
    assert check_plugin("hook_raises") == "collect: RuntimeError: the hook raised, over two lines"


def test_a_plugin_whose_declarations_cannot_be_sent_is_refused(hostile):
    assert check_plugin("raw_schema_broken").startswith("validate: SchemaError: the input schema of raw_schema_broken")
    assert check_plugin("default_not_json").startswith("validate: TypeError: the default of the tenant setting `thing`")


def test_a_reason_that_is_no_text_is_told_as_one_that_is(hostile):
    assert check_plugin("half_an_error") == r"import: RuntimeError: half \ud800 a character"


def test_a_plugin_that_writes_to_stdout_is_understood(hostile):
    assert check_plugin("noisy") is None


def test_a_plugin_that_passed_is_not_checked_again_until_its_files_change(hostile, checked, tmp_path):
    found = hostile.found("a_bystander")
    assert refused_plugins(found, tmp_path) == {}
    assert refused_plugins(found, tmp_path) == {}
    assert checked == ["a_bystander"]
    source = hostile.site / "hostile" / "a_bystander.py"
    source.write_text(source.read_text() + "\n")
    assert refused_plugins(found, tmp_path) == {}
    assert checked == ["a_bystander", "a_bystander"]


def test_a_plugin_that_was_refused_is_checked_again(hostile, monkeypatch, tmp_path):
    verdicts = iter(["not today", None])
    monkeypatch.setattr(check, "check_plugin", lambda name: next(verdicts))
    found = hostile.found("noisy")
    assert refused_plugins(found, tmp_path) == {"noisy": "not today"}
    assert refused_plugins(found, tmp_path) == {}


def test_what_is_built_in_or_blocked_is_not_checked(hostile, checked, tmp_path):
    assert refused_plugins(hostile.found("noisy"), tmp_path, blocked=["noisy"]) == {}
    assert checked == []


@pytest.mark.parametrize("kept", ["not json", "[]", '{"noisy": 3}', ""])
def test_a_damaged_memory_only_costs_another_check(hostile, checked, tmp_path, kept):
    (tmp_path / "plugin-checks.json").write_text(kept)
    assert refused_plugins(hostile.found("noisy"), tmp_path) == {}
    assert checked == ["noisy"]
    assert list(json.loads((tmp_path / "plugin-checks.json").read_text())) == ["noisy"]


def test_a_data_directory_that_cannot_be_written_only_costs_another_check(hostile, checked, tmp_path):
    (tmp_path / "file").write_text("")
    assert refused_plugins(hostile.found("noisy"), tmp_path / "file") == {}
    assert checked == ["noisy"]
