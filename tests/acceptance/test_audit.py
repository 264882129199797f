"""`mercato audit`, over real processes: what holds, what does not, and what cannot be undone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import run
from tests.own_database import OwnDatabase, own_database


@pytest.fixture
async def own(anyio_backend: str, runtime: Any, mercato_addresses: Any):
    async with own_database(mercato_addresses) as opened:
        yield opened


@pytest.fixture
def audit(own: OwnDatabase, data_dir: Path, mercato_addresses: Any):
    """Run `mercato audit …`; return its exit code and what it said: JSON where there is some, else both outputs."""
    data_dir.mkdir()
    environment = {"DATABASE_URL": own.url, "REDIS_URL": mercato_addresses.redis_url}

    def command(*arguments: str) -> tuple[int, Any]:
        done = run(data_dir, "audit", *arguments, **environment)
        if "--json" in arguments and done.stdout:
            return done.returncode, json.loads(done.stdout)
        return done.returncode, done.stdout + done.stderr

    return command


async def test_the_log_of_a_tenant_is_erased_pruned_and_verified(own: OwnDatabase, audit: Any):
    acme = await own.new_tenant("acme")
    of_acme = ("--tenant", acme.slug)
    owner = f"ada@{acme.slug}.example"
    code, said = audit("erase", *of_acme, "--user", owner)
    assert (code, "Erase the arguments" in said) == (1, True)
    assert audit("erase", *of_acme, "--user", owner, "--yes", "--json") == (0, {"tenant": acme.slug, "erased": 1})
    assert audit("erase", *of_acme, "--entry", "999999", "--yes")[0] == 1
    code, found = audit("verify", *of_acme, "--json")
    assert (code, found["holds"], found["entries"], found["erased"]) == (0, True, 1, 1)
    assert audit("verify", *of_acme, "--known", found["end"])[0] == 0
    assert audit("verify", *of_acme, "--known", "7:ff")[0] == 1
    code, said = audit("prune", *of_acme, "--before", "2000-01-31", "--yes")
    assert (code, said) == (0, f"{acme.slug} has no sealed entries from before 2000-01-31.\n")
    assert audit("prune", *of_acme, "--before", "soon", "--yes")[0] == 1
    await own.superuser.execute("update mercato.audit_entries set action = 'else' where number = 1")
    code, said = audit("verify", *of_acme)
    assert code == 1
    assert said.startswith(f"The audit of {acme.slug} does not hold. It breaks first at number 1.\n  Entry ")
