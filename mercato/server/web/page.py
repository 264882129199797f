"""What every page has in common: who is there, that a form is ours, and words for whatever goes wrong."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response

from mercato.server.oauth.errors import OAuthError, Unauthorizable
from mercato.server.oauth.forms import form_text, pairs
from mercato.server.runtime import Runtime
from mercato.server.web.addresses import client_address
from mercato.server.web.cookies import Cookies, new_visit
from mercato.server.web.templating import Templates
from mercato.tenancy.database import is_outage
from mercato.tenancy.errors import Busy, NotFound, TenancyError
from mercato.tenancy.memberships import Belonging, memberships_of, shown_first
from mercato.tenancy.principal import Principal
from mercato.tenancy.sessions import SignedIn, find_session, session_principal

log = structlog.stdlib.get_logger(__name__)

_LONGEST_NEXT = 4_000


@dataclass(frozen=True, slots=True)
class Web:
    """What pages are made with."""

    runtime: Runtime
    templates: Templates
    cookies: Cookies


class Refusal(Exception):
    """A page that cannot be shown; the text is for the person."""

    def __init__(self, heading: str, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.heading = heading
        self.status = status


class SignInNeeded(Exception):
    """The page is for somebody who is signed in."""


@dataclass(slots=True)
class Visit:
    """One request for a page."""

    request: Request
    web: Web
    binding: str
    is_new: bool
    person: SignedIn | None = None
    belongings: list[Belonging] = field(default_factory=list)
    form: list[tuple[str, str]] = field(default_factory=list)

    @property
    def runtime(self) -> Runtime:
        """The server's parts."""
        return self.web.runtime

    @property
    def address(self) -> str:
        """Where the request comes from."""
        return client_address(self.request, self.runtime.settings.proxies)

    @property
    def signed_in(self) -> SignedIn:
        """Who is there. Raises `SignInNeeded`."""
        if self.person is None:
            raise SignInNeeded
        return self.person

    @property
    def current(self) -> Belonging | None:
        """The tenant whose pages are shown: the one chosen, else the first."""
        return shown_first(self.belongings, self.person.chosen_tenant_id if self.person else None)

    @property
    def belonging(self) -> Belonging:
        """The same, where there must be one. Raises `SignInNeeded` or `Refusal`."""
        if self.current is None:
            text = f"{self.signed_in.email} belongs to no business here: ask somebody of yours for an invitation."
            raise Refusal("No business yet", text, 403)
        return self.current

    def id(self, name: str) -> int:
        """Return an id in the address. Raises `HTTPException` for one that no row can have."""
        found = int(self.request.path_params[name])
        if found >= 2**63:
            raise HTTPException(404)
        return found

    def value(self, name: str) -> str:
        """Return a field of the form; empty where it was left out."""
        return next((value for field_name, value in self.form if field_name == name), "")

    def values(self, name: str) -> list[str]:
        """Return all the values of a field."""
        return [value for field_name, value in self.form if field_name == name]

    def belonging_to(self, tenant_id: str) -> Belonging | None:
        """Return the person's membership in a tenant that a form or an address names."""
        return next((one for one in self.belongings if str(one.tenant.id) == tenant_id), None)

    def principal(self, belonging: Belonging) -> Principal:
        """Return who acts in this browser."""
        return session_principal(self.signed_in, belonging)

    def page(
        self, template: str, title: str, *, status: int = 200, form_action: str | None = None, **context: Any
    ) -> Response:
        """Return a page of ours."""
        base = {"title": title, "page": "", "notice": None, "errors": {}, "values": {}, **self._known()}
        response = self.web.templates.response(template, base | context, status=status, form_action=form_action)
        if self.is_new:
            self.web.cookies.set_visit(response, self.binding)
        return response

    def message(
        self, heading: str, text: str, *, status: int = 200, action: Mapping[str, str] | None = None
    ) -> Response:
        """Return a page that says one thing."""
        return self.page("message.html", heading, status=status, heading=heading, text=text, action=action)

    def redirect(self, path: str) -> Response:
        """Lead on to another page of ours."""
        return RedirectResponse(self.runtime.site.url(path), status_code=303, headers={"Cache-Control": "no-store"})

    def _known(self) -> dict[str, Any]:
        current = self.current
        tenant = current and {"name": current.tenant.name, "slug": current.tenant.slug, "role": str(current.role)}
        tenants = [
            {"id": one.tenant.id, "name": one.tenant.name, "slug": one.tenant.slug, "current": one is current}
            for one in self.belongings
        ]
        person = self.person and {"name": self.person.name, "email": self.person.email}
        return {"csrf": self.web.cookies.csrf(self.binding), "person": person, "tenant": tenant, "tenants": tenants}


Page = Callable[[Visit], Awaitable[Response]]


def page(handler: Page) -> Callable[[Request], Awaitable[Response]]:
    """Return a Starlette endpoint: reads who is there, checks a form's origin, answers refusals as pages."""

    @functools.wraps(handler)
    async def answer(request: Request) -> Response:
        web: Web = request.app.state.web
        if (elsewhere := _own_address(request, web)) is not None:
            return elsewhere
        visit = Visit(request, web, binding=new_visit(), is_new=True)
        try:
            await _arrive(visit)
            if request.method == "POST":
                await _take_form(visit)
            return await handler(visit)
        except SignInNeeded:
            return visit.redirect(f"/sign-in?next={quote(_here(request), safe='')}")
        except Refusal as refusal:
            return visit.message(refusal.heading, str(refusal), status=refusal.status)
        except (Unauthorizable, OAuthError) as error:
            return visit.message("This request cannot be used", str(error), status=400)
        except TenancyError as error:
            status = 404 if isinstance(error, NotFound) else 503 if isinstance(error, Busy) else 400
            return visit.message("That did not work", str(error), status=status)
        except (HTTPException, ClientDisconnect):
            raise
        except Exception as error:  # noqa: BLE001  # the edge of a request: a person gets a page, the log the rest
            return _failure(visit, error)

    return answer


def local_path(path: str, default: str) -> str:
    """Return a path of ours to go on to; anything that could lead elsewhere becomes the default."""
    safe = path.isascii() and path.isprintable() and "\\" not in path and len(path) <= _LONGEST_NEXT
    if not safe or not path.startswith("/") or path.startswith("//"):
        return default
    parts = urlsplit(path)
    return path if not parts.scheme and not parts.netloc else default


def query_of(request: Request) -> list[tuple[str, str]]:
    """Return a request's query in its order."""
    return parse_qsl(request.url.query, keep_blank_values=True)


async def _arrive(visit: Visit) -> None:
    cookies, request = visit.web.cookies, visit.request
    token = cookies.session(request)
    person = await find_session(visit.runtime.database, token) if token else None
    if token is not None and person is not None:
        visit.person, visit.binding, visit.is_new = person, token, False
        visit.belongings = await memberships_of(visit.runtime.database, person.user_id)
    elif (known := cookies.visit(request)) is not None:
        visit.binding, visit.is_new = known, False


async def _take_form(visit: Visit) -> None:
    """Read a form that one of our pages sent. Raises `Refusal` for any other."""
    origin = visit.request.headers.get("origin")
    foreign = origin is not None and not visit.runtime.site.is_own_origin(origin)
    cross = visit.request.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}
    visit.form = pairs(await form_text(visit.request))
    if foreign or cross or visit.is_new or not visit.web.cookies.is_csrf(visit.value("csrf"), visit.binding):
        text = "The form was too old, or did not come from this site. Go back, load the page again, and send it anew."
        raise Refusal("Please try again", text, 403)


def _own_address(request: Request, web: Web) -> Response | None:
    """Lead a browser that came by one of our other names to the one that cookies are bound to."""
    site = web.runtime.site
    if request.method != "GET" or site.base(request.headers.get("host", "")) == site.issuer:
        return None
    return RedirectResponse(site.url(_here(request)), status_code=307, headers={"Cache-Control": "no-store"})


def _here(request: Request) -> str:
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")


def _failure(visit: Visit, error: Exception) -> Response:
    if is_outage(error):
        log.warning("the database does not answer", error=type(error).__name__)
        text = "The database does not answer at the moment. Try again in a few seconds."
        return visit.message("One moment, please", text, status=503)
    reference = getattr(visit.request.state, "request_id", "")
    log.error("request failed", request_id=reference, exc_info=error)
    return visit.message("Something went wrong", f"It is in the log under {reference}.", status=500)
