"""What makes two calls the same, what is kept of an answer, and where in a call it is looked for."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime

import mcp_types as mcp
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from mercato import Category, ToolContext
from mercato.tenancy.memberships import Role
from mercato.tenancy.principal import Principal
from mercato.tools.call import Call, call_tool
from mercato.tools.context import Clock
from mercato.tools.errors import InvalidArguments
from mercato.tools.moments import Moments
from mercato.tools.outcome import Outcome
from mercato.tools.replays import Repeated, fingerprint_of

ADA = Principal(1, 2, Role.OWNER, frozenset(), None, "token", grant_id=3)
AT = datetime(2026, 11, 25, 21, 40, 5, tzinfo=UTC)
json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
arguments = st.dictionaries(st.text(), json, max_size=4)


@given(arguments)
def test_the_order_of_arguments_makes_no_other_call(given_arguments):
    turned = dict(reversed(given_arguments.items()))
    assert fingerprint_of(ADA, "keep", given_arguments) == fingerprint_of(ADA, "keep", turned)


@given(arguments, arguments)
def test_other_arguments_make_another_call(one, other):
    same = fingerprint_of(ADA, "keep", one).digest == fingerprint_of(ADA, "keep", other).digest
    assert same == (repr(sorted(one.items())) == repr(sorted(other.items())) or _said(one) == _said(other))


def _said(value):
    import json as standard

    return standard.dumps(value, sort_keys=True)


@pytest.mark.parametrize(
    "other",
    [
        replace(ADA, tenant_id=9),
        replace(ADA, user_id=9),
        replace(ADA, grant_id=9),
        replace(ADA, kind="key", credential_id=3, grant_id=None),
    ],
)
def test_no_digest_of_one_principal_is_that_of_another(other):
    mine = fingerprint_of(ADA, "keep", {}, key="k", state="s")
    theirs = fingerprint_of(other, "keep", {}, key="k", state="s")
    assert {mine.digest, mine.key, mine.state}.isdisjoint({theirs.digest, theirs.key, theirs.state})


def test_what_a_token_may_and_how_long_it_lives_makes_no_other_principal():
    renewed = replace(ADA, expires_at=AT, scopes=frozenset({"tools:write"}))
    assert fingerprint_of(ADA, "keep", {}) == fingerprint_of(renewed, "keep", {})


def test_the_key_belongs_to_the_caller_and_not_to_the_tool():
    assert fingerprint_of(ADA, "keep", {}, key="k").key == fingerprint_of(ADA, "wipe", {"a": 1}, key="k").key


@pytest.mark.parametrize("key", ["", "x" * 201, 1, b"k", {}])
def test_a_key_is_a_text_of_some_length(key):
    with pytest.raises(InvalidArguments, match="text of 1 to 200 characters"):
        fingerprint_of(ADA, "keep", {}, key=key)


ANSWERS = {
    "a model": Outcome(b'{"a":1.0,"b":"\xc3\xa4 \\u2028"}'),
    "content beside it": Outcome(
        b"{}",
        [
            mcp.TextContent(text="seen", annotations=mcp.Annotations(priority=0.5)),
            mcp.ImageContent(data="aGk=", mime_type="image/png"),
            mcp.ResourceLink(uri="probe://one", name="one"),
        ],
        {"view": [1, {"x": None}]},
        changed=("probe://one", "probe://two"),
    ),
    "nothing to read": Outcome(b"{}", [], None),
}


@pytest.mark.parametrize("first", ANSWERS.values(), ids=ANSWERS)
def test_what_is_kept_is_the_whole_answer(first):
    again = Outcome.replayed(first.kept(), AT)
    assert (again.structured, again.content, again.meta) == (first.structured, first.content, first.meta)
    assert tuple(again.changed) == tuple(first.changed)
    assert (again.code, again.first_at) == ("replayed", AT)


@pytest.mark.parametrize("first", ANSWERS.values(), ids=ANSWERS)
def test_both_ways_to_the_wire_carry_the_mark(first):
    again = Outcome.replayed(first.kept(), AT)
    written = orjson.loads(b"{" + again.wire() + b"}") | {"_meta": again.wire_meta, "resultType": "complete"}
    assert written == again.result().model_dump(by_alias=True, mode="json", exclude_none=True)
    assert written["_meta"]["mercato/replayed"] == {"first_at": "2026-11-25T21:40:05+00:00"}
    assert "21:40:05 UTC" in written["content"][-1]["text"]
    assert "after 21:50:05 UTC" in written["content"][-1]["text"]


probe = Category("probe", "For the tests.")


class Said(BaseModel):
    text: str


class Steps:
    """What a call goes through, each step taken down; it stands for contexts, the Guard, replays and the client."""

    def clock(self, seconds, watch=None):
        return Clock(seconds, Moments())

    can_ask = True

    def __init__(self, *, first: Outcome | None = None) -> None:
        self.taken: list[str] = []
        self.first = first
        self.replays = self
        self.db = self.session = self

    @asynccontextmanager
    async def open(self, call, conversation, *, read_only):
        yield self
        self.taken.append("commit")

    @asynccontextmanager
    async def attempt(self, call, delivery, *, timeout_s):
        yield self
        self.taken.append("end")

    async def look(self):
        self.taken.append("look")
        if self.first is not None:
            raise Repeated(self.first)

    def guard(self, db):
        self.taken.append("guard")

    async def remember(self, db, outcome):
        self.taken.append("remember")

    def add(self, entry):
        self.taken.append("audit")

    async def ask(self, key, message, schema):
        self.taken.append("ask")
        return {"confirm": True}

    async def admit(self, call):
        self.taken.append("admit")

    def settle(self, call, code, answer_bytes, seconds):
        self.taken.append(code)


class _Access:
    unconfirmed = frozenset()


async def made(tool, steps):
    call = Call(tool=tool, arguments={}, principal=ADA, access=_Access(), client=steps, request_id="r")
    return await call_tool(call, steps, steps)


@probe.tool(read_only=False, destructive=True)
async def wipe(ctx: ToolContext) -> Said:
    """Wipe."""
    ctx.taken.append("run")
    return Said(text="wiped")


@probe.tool(read_only=True)
async def look(ctx: ToolContext) -> Said:
    """Look."""
    return Said(text="seen")


async def test_a_write_looks_before_it_asks_and_remembers_before_it_commits():
    steps = Steps()
    await made(wipe, steps)
    assert steps.taken == ["admit", "look", "ask", "guard", "run", "audit", "remember", "commit", "end", "ok"]


async def test_a_write_that_was_made_before_does_nothing_but_look():
    steps = Steps(first=Outcome.replayed(Outcome(b"{}").kept(), AT))
    assert (await made(wipe, steps)).structured == b"{}"
    assert steps.taken == ["admit", "look", "replayed"]


async def test_a_tool_that_only_reads_looks_for_nothing():
    steps = Steps()
    await made(look, steps)
    assert steps.taken == ["admit", "commit", "ok"]
