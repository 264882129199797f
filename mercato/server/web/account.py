"""A person's own account: password, and where they are signed in."""

from __future__ import annotations

from starlette.responses import Response

from mercato.server.web.page import Visit, page
from mercato.server.web.sign_in import WINDOW_S
from mercato.tenancy import accounts
from mercato.tenancy.errors import InvalidValue
from mercato.tenancy.sessions import end_sessions, list_sessions

_MOST_ATTEMPTS = 10


@page
async def account_page(visit: Visit) -> Response:
    """Show it."""
    return await _show(visit)


@page
async def change_password(visit: Visit) -> Response:
    """Change the password; every other browser is signed out."""
    person, database = visit.signed_in, visit.runtime.database
    account = await accounts.read_account(database, person.user_id)
    if account.has_password and (wrong := await _wrong(visit, person.email)) is not None:
        return await _show(visit, errors={"current": wrong}, status=400)
    try:
        await accounts.set_password(
            database, visit.runtime.passwords, person.user_id, visit.value("password"), lane=visit.address
        )
    except InvalidValue as error:
        return await _show(visit, errors={"password": str(error)}, status=400)
    await end_sessions(database, person.user_id, but=person.session_id)
    return await _show(visit, notice="Your password is changed. You are signed out everywhere else.")


async def _wrong(visit: Visit, email: str) -> str | None:
    """Return what is wrong with the present password that was given; a stolen session must not guess it."""
    name = f"password change {visit.signed_in.user_id}"
    if await visit.runtime.throttle.count(name, WINDOW_S) > _MOST_ATTEMPTS:
        return "There were too many attempts. Wait a quarter of an hour, then try again."
    good = await accounts.is_password(
        visit.runtime.database,
        visit.runtime.passwords,
        visit.signed_in.user_id,
        visit.value("current"),
        lane=visit.address,
    )
    if not good:
        return "This is not your present password."
    await visit.runtime.throttle.forget(name)
    return None


@page
async def sign_out_everywhere(visit: Visit) -> Response:
    """End every session of the person, this one too."""
    await end_sessions(visit.runtime.database, visit.signed_in.user_id)
    response = visit.redirect("/sign-in")
    visit.web.cookies.end_session(response)
    return response


async def _show(
    visit: Visit, *, errors: dict[str, str] | None = None, notice: str | None = None, status: int = 200
) -> Response:
    person = visit.signed_in
    account = await accounts.read_account(visit.runtime.database, person.user_id)
    sessions = await list_sessions(visit.runtime.database, person.user_id)
    return visit.page(
        "account.html",
        "Account",
        page="account",
        status=status,
        notice=notice,
        has_password=account.has_password,
        sessions=[
            {
                "id": one.id,
                "device": one.device,
                "created_at": one.created_at,
                "last_seen_at": one.last_seen_at,
                "current": one.id == person.session_id,
            }
            for one in sessions
        ],
        errors=errors or {},
    )
