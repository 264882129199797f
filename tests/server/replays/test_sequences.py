"""Whatever is called, lost and repeated, by whom and in which order: the effects are those of the rule, no others."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mercato.tenancy.onboarding import local_principal

FATES = {"delivered": True, "lost": False}
step = st.tuples(
    st.sampled_from(["here", "there"]),
    st.sampled_from(["acme", "globex"]),
    st.sampled_from(["ada", "her key"]),
    st.sampled_from(["one", "two"]),
    st.sampled_from([None, None, "k1", "k2"]),
    st.sampled_from(list(FATES)),
)


@dataclass
class Made:
    """A write that was made, and what is known of it."""

    caller: tuple[str, str]
    name: str
    key: str | None
    answer: bytes
    lost: bool


class Rule:
    """What ought to happen, said once more and in other words than the code's."""

    def __init__(self) -> None:
        self.made: list[Made] = []

    def expected(self, caller, name, key):
        """The first answer, `reused`, or None where the call is to run."""
        mine = [made for made in reversed(self.made) if made.caller == caller]
        if key is None:
            return next((made.answer for made in mine if made.name == name and made.lost), None)
        under_it = [made for made in mine if made.key == key]
        if not under_it:
            return None
        return under_it[0].answer if under_it[0].name == name else "reused"


@pytest.fixture
async def worlds(runtime, new_tenant):
    """Two new tenants for each example."""

    async def make():
        tenants = {name: await new_tenant(runtime, name) for name in ("acme", "globex")}
        callers = {}
        for name, tenant in tenants.items():
            ada = await local_principal(runtime.database, tenant)
            callers |= {(name, "ada"): ada, (name, "her key"): replace(ada, kind="key", credential_id=7)}
        return tenants, callers

    return make


@given(st.lists(step, max_size=12))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_every_sequence_has_the_effects_of_the_rule(here, there, worlds, effects, steps):
    processes, rule = {"here": here, "there": there}, Rule()
    tenants, callers = await worlds()
    for process, tenant, who, name, key, fate in steps:
        caller, expected = (tenant, who), rule.expected((tenant, who), name, key)
        outcome = await processes[process].call(
            tenants[tenant], name=name, key=key, who=callers[caller], delivered=FATES[fate]
        )
        for other in processes.values():
            await other.replays.fates.flush()
        if expected is None:
            assert outcome.code == "ok"
            rule.made.append(Made(caller, name, key, outcome.structured, fate == "lost"))
        elif expected == "reused":
            assert outcome.code == "idempotency_key_reused"
        else:
            assert (outcome.code, outcome.structured) == ("replayed", expected)
    answers = [made.answer for made in rule.made]
    assert len(set(answers)) == len(answers)
    assert sum([await effects(tenant) for tenant in tenants.values()]) == len(answers)
