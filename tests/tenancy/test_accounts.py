from __future__ import annotations

import secrets

import anyio
import pytest
from argon2 import PasswordHasher

from mercato.tenancy import accounts
from mercato.tenancy.accounts import clean_email, clean_name, ensure_account, find_account, open_account, set_password
from mercato.tenancy.errors import InvalidValue, NotFound
from mercato.tenancy.passwords import Passwords

GOOD, OTHER = "correct horse battery", "another horse battery"


@pytest.fixture
def passwords():
    made = Passwords()
    made._hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    return made


@pytest.fixture
def email():
    return f"{secrets.token_hex(6)}@example.com"


async def test_an_account_signs_in_with_its_password_however_its_address_is_written(database, passwords, email):
    user_id = await open_account(database, passwords, email, "Ada", GOOD)
    for written in (email, email.upper(), f"  {email}\n"):
        account = await accounts.sign_in(database, passwords, written, GOOD)
        assert (account.user_id, account.email, account.has_password) == (user_id, email, True)
    for wrong in (OTHER, "", GOOD + " "):
        assert await accounts.sign_in(database, passwords, email, wrong) is None
    for nobody in ("nobody@example.com", "no address", "", "\0@example.com", "%@example.com", email + "\0"):
        assert await accounts.sign_in(database, passwords, nobody, GOOD) is None


async def test_an_account_without_a_password_signs_in_with_none(database, passwords, email):
    async with database.system() as session:
        await ensure_account(session, email, "Ada")
    account = await find_account(database, email)
    assert (account.has_password, account.has_sign_in) == (False, False)
    for password in ("", GOOD):
        assert await accounts.sign_in(database, passwords, email, password) is None


async def test_an_account_that_has_a_password_is_not_opened_again(database, passwords, email):
    await open_account(database, passwords, email, "Ada", GOOD)
    with pytest.raises(InvalidValue, match="has a password already"):
        await open_account(database, passwords, email, "Eve", OTHER)
    assert (await accounts.sign_in(database, passwords, email, GOOD)).name == "Ada"
    assert await accounts.sign_in(database, passwords, email, OTHER) is None


async def test_of_those_who_open_an_account_at_once_one_gets_it(database, passwords, email):
    opened, refused = [], []

    async def open_it(password):
        try:
            opened.append((await open_account(database, passwords, email, password, password), password))
        except InvalidValue:
            refused.append(password)

    async with anyio.create_task_group() as group:
        for number in range(4):
            group.start_soon(open_it, f"{GOOD} {number}")
    [(user_id, password)] = opened
    assert len(refused) == 3
    assert (await accounts.sign_in(database, passwords, email, password)).user_id == user_id
    for other in refused:
        assert await accounts.sign_in(database, passwords, email, other) is None


async def test_a_new_password_takes_the_place_of_the_old_one(database, passwords, email):
    user_id = await open_account(database, passwords, email, "Ada", GOOD)
    await set_password(database, passwords, user_id, OTHER)
    assert await accounts.sign_in(database, passwords, email, GOOD) is None
    assert await accounts.is_password(database, passwords, user_id, OTHER)
    assert not await accounts.is_password(database, passwords, user_id, GOOD)
    with pytest.raises(InvalidValue, match="12 characters"):
        await set_password(database, passwords, user_id, "short")
    assert await accounts.is_password(database, passwords, user_id, OTHER)


async def test_an_identity_elsewhere_is_tied_to_a_verified_address_and_to_no_other(database, passwords, email):
    user_id = await open_account(database, passwords, email, "Ada", GOOD)
    issuer, subject = "https://id.example", secrets.token_hex(8)
    sign_in = accounts.sign_in_by_identity
    assert await sign_in(database, issuer, subject, None) is None
    assert await sign_in(database, issuer, subject, f"x{email}") is None
    assert (await sign_in(database, issuer, subject, email)).user_id == user_id
    assert (await sign_in(database, issuer, subject, f"x{email}")).user_id == user_id
    assert await sign_in(database, "https://evil.example", subject, None) is None


ADDRESSES = [
    "",
    "@",
    "a@",
    "@example.com",
    "a@example",
    "a b@example.com",
    "a@b@example.com",
    "a@ex\0.com",
    "a" * 250 + "@a.de",
]


@pytest.mark.parametrize("text", ADDRESSES)
def test_what_is_no_address_is_refused(text):
    with pytest.raises(InvalidValue, match="no e-mail address"):
        clean_email(text)


@pytest.mark.parametrize(
    ("text", "name"), [("  Ada\n Lovelace ", "Ada Lovelace"), ("a\u202eb\0c", "a b c"), ("x" * 300, "x" * 200)]
)
def test_a_name_is_one_line_that_hides_nothing(text, name):
    assert clean_name(text) == name


@pytest.mark.parametrize("text", ["", " ", "\0\u202e\n"])
def test_a_name_of_nothing_is_refused(text):
    with pytest.raises(InvalidValue):
        clean_name(text)


async def test_an_account_that_is_not_there_is_not_found(database):
    with pytest.raises(NotFound):
        await find_account(database, "nobody@example.com")
    with pytest.raises(NotFound):
        await accounts.read_account(database, 2**62)
