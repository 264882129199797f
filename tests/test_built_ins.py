"""A server without one of the plugins that come with it: it starts, and only what was built on that one fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import anyio
import pytest

from tests.sources import built_ins
from tests.test_contracts import PLUGIN_EDGES

PROGRAM = """
import asyncio, importlib.abc, json, os, sys, tempfile
from pathlib import Path

import alembic, sqlmodel
import mercato.server.runtime as server
from mercato.plugins.manager import discover
from mercato.server.settings import Settings


class Gone(importlib.abc.MetaPathFinder):
    def __init__(self, name):
        self.name = name

    def find_spec(self, name, path, target=None):
        if name == self.name or name.startswith(self.name + "."):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


async def start(name):
    found = [one for one in discover() if one.built_in and one.name != name]
    settings = Settings(data_dir=Path(os.environ["HOME_OF_TEST"]), database_pool=1)
    addresses = server.Addresses(os.environ["ADDRESS"], os.environ["REDIS"])
    async with server.open_runtime(settings, addresses, found=found) as runtime:
        print(json.dumps({
            "without": name,
            "loaded": sorted(runtime.plugins.loaded),
            "failed": {failure.plugin: failure.reason for failure in runtime.plugins.failures},
            "schemas": sorted({table.schema for table in sqlmodel.SQLModel.metadata.tables.values()}),
            "categories": sorted(runtime.catalog.categories),
            "tools": sorted(runtime.catalog.tools),
        }), flush=True)


for name in sys.argv[1:]:
    if os.fork() == 0:
        sys.meta_path.insert(0, Gone(f"mercato.plugins.{name}"))
        asyncio.run(start(name))
        os._exit(0)
    os.wait()
"""


@pytest.fixture(scope="module")
async def without(anyio_backend, runtime, mercato_addresses, tmp_path_factory):
    """What a server is like without each plugin: one process, which forks for each of them."""
    home = str(tmp_path_factory.mktemp("without"))
    addresses = {"ADDRESS": mercato_addresses.database_url, "REDIS": mercato_addresses.redis_url}
    environment = os.environ | addresses | {"HOME_OF_TEST": home}
    command = [sys.executable, "-c", PROGRAM, *built_ins(), "none_of_them"]
    done = await anyio.run_process(command, env=environment, stderr=subprocess.PIPE)
    reports = [json.loads(line) for line in done.stdout.splitlines()]
    return {report["without"]: report for report in reports}


def dependents(name):
    """The plugins that import this one, and those that import them."""
    direct = {importer for importer, imported in PLUGIN_EDGES if imported == name}
    return direct.union(*(dependents(importer) for importer in direct))


def test_the_whole_server_has_every_plugin(without):
    assert without["none_of_them"]["loaded"] == list(built_ins())
    assert without["none_of_them"]["failed"] == {}


@pytest.mark.parametrize("name", built_ins())
def test_without_a_plugin_the_server_starts_and_only_what_was_built_on_it_fails(without, name):
    report = without[name]
    assert set(report["failed"]) == dependents(name)
    assert set(report["loaded"]) == set(built_ins()) - {name} - dependents(name)
    assert all(f"mercato.plugins.{name}" in reason for reason in report["failed"].values())


@pytest.mark.parametrize("name", built_ins())
def test_without_a_plugin_its_tools_and_tables_are_absent(without, runtime, name):
    report, plugin = without[name], runtime.plugins.loaded[name]
    tools = {tool.name for category in plugin.categories for tool in category.tools}
    assert tools
    assert not tools & set(report["tools"])
    assert not {category.name for category in plugin.categories} & set(report["categories"])
    assert name not in report["schemas"]
