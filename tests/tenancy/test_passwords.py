from __future__ import annotations

import time

import anyio
import pytest
from argon2 import PasswordHasher, extract_parameters
from argon2.low_level import Type

from mercato.tenancy import passwords as module
from mercato.tenancy.errors import Busy, InvalidValue
from mercato.tenancy.passwords import Passwords, check_password

GOOD = "correct horse battery"


@pytest.fixture
def passwords():
    made = Passwords()
    made._hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    return made


async def test_a_password_is_hashed_with_argon2id_and_a_salt_of_its_own():
    made = Passwords()
    stored = await made.hash(GOOD)
    found = extract_parameters(stored)
    assert found.type is Type.ID
    assert found.memory_cost >= 19 * 1024
    assert found.time_cost >= 2
    assert GOOD not in stored
    assert await made.hash(GOOD) != stored
    assert await made.matches(GOOD, stored)


async def test_only_the_password_itself_matches(passwords):
    stored = await passwords.hash(GOOD)
    assert await passwords.matches(GOOD, stored)
    for wrong in ("", GOOD[:-1], GOOD + " ", GOOD.upper(), " " + GOOD, "x" * 100_000, GOOD + "\0"):
        assert not await passwords.matches(wrong, stored)
    for broken in ("", "nonsense", "$argon2id$v=19$m=8,t=1,p=1$c2FsdA$", stored[:-1]):
        assert not await passwords.matches(GOOD, broken)


async def test_nobodys_password_matches_nothing_and_is_compared_all_the_same(passwords, monkeypatch):
    compared = []
    verify = passwords._verify
    monkeypatch.setattr(passwords, "_verify", lambda *given: compared.append(given[0]) or verify(*given))
    assert not await passwords.matches(GOOD, None)
    assert not await passwords.matches("", None)
    assert len(compared) == 2
    assert all(one.startswith("$argon2id$") for one in compared)


async def test_a_password_is_the_same_whichever_keyboard_typed_it(passwords):
    stored = await passwords.hash("pässwörter sind schön")
    assert await passwords.matches("pa\u0308sswo\u0308rter sind scho\u0308n", stored)


@pytest.mark.parametrize("password", ["", "short", "x" * 11, "aaaaaaaaaaaaaaaa", "abababababab", "y" * 257 + "xza"])
def test_a_password_that_is_too_short_or_too_long_or_too_plain_is_refused(password):
    with pytest.raises(InvalidValue) as refusal:
        check_password(password)
    assert not password or password not in str(refusal.value)


def test_a_password_may_be_as_long_as_the_longest():
    assert check_password("abcd" * 64) == "abcd" * 64


async def test_a_text_of_marks_that_takes_long_to_normalise_does_not_hold_the_server_up(passwords):
    marks = "a" + "\u0300\u0316" * 40_000
    began = time.perf_counter()
    with pytest.raises(InvalidValue):
        await passwords.hash(marks)
    assert not await passwords.matches(marks, None)
    assert time.perf_counter() - began < 1


async def test_a_crowd_of_one_origin_is_refused_at_last_and_others_are_not(passwords, monkeypatch):
    monkeypatch.setattr(module, "_MOST_WAITING", 3)
    monkeypatch.setattr(module, "_FAIR_SHARE", 2)
    stored = await passwords.hash(GOOD)
    answers = {"crowd": [], "alone": []}

    async def compare(lane):
        try:
            answers[lane].append(await passwords.matches(GOOD, stored, lane=lane))
        except Busy:
            answers[lane].append(None)

    async with anyio.create_task_group() as group:
        for lane in ["crowd"] * 8 + ["alone"]:
            group.start_soon(compare, lane)
    assert answers["alone"] == [True]
    assert None in answers["crowd"]
    assert True in answers["crowd"]
    assert await passwords.matches(GOOD, stored, lane="crowd")


async def test_no_text_takes_long_whatever_it_is_made_of(passwords):
    with anyio.fail_after(5):
        assert not await passwords.matches("\u0300\u0316" * 1_000_000, None)


async def test_a_crowd_of_one_origin_delays_itself_and_nobody_else(passwords):
    stored = await passwords.hash("correct horse battery")
    order = []

    async def attempt(lane, number):
        await passwords.matches("wrong", stored, lane=lane)
        order.append((lane, number))

    async with anyio.create_task_group() as group:
        for number in range(30):
            group.start_soon(attempt, "crowd", number)
        group.start_soon(attempt, "person", 0)
    assert order.index(("person", 0)) < 10
    assert passwords._lanes == {}
