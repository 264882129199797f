"""A person with a browser, without one: cookies, forms as they stand in the page, redirects one at a time."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import urlsplit

import httpx

PASSWORD = "correct horse battery"


@dataclass
class Form:
    """A form of a page, with what a browser would send of it."""

    action: str
    method: str
    fields: list[tuple[str, str]] = field(default_factory=list)
    offered: list[tuple[str, str]] = field(default_factory=list)
    """Boxes and buttons: what a person may tick or press."""


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self._select: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append(Form(given.get("action", ""), given.get("method", "get")))
        elif tag == "select":
            self._select = given.get("name")
        elif tag == "option" and self._select and "selected" in given and self.forms:
            self.forms[-1].fields.append((self._select, given.get("value", "")))
        elif tag in {"input", "button"} and self.forms and given.get("name"):
            pair = (given["name"], given.get("value", ""))
            choice = given.get("type") in {"checkbox", "radio"}
            if tag == "button" or choice:
                self.forms[-1].offered.append(pair)
            if tag == "input" and (not choice or "checked" in given):
                self.forms[-1].fields.append(pair)

    def handle_endtag(self, tag: str) -> None:
        if tag == "select":
            self._select = None


def forms_of(page: httpx.Response) -> list[Form]:
    """Return the forms of a page."""
    parser = _Forms()
    parser.feed(page.text)
    return parser.forms


class Browser:
    """Goes where a person goes at one site, and follows redirects only within it."""

    def __init__(self, base_url: str, **headers: str) -> None:
        # Plain http: the certificates of the world, which nobody needs here, take 50 ms to read.
        given = {"accept": "text/html", **headers}
        self.http = httpx.AsyncClient(base_url=base_url, headers=given, timeout=20, verify=False)
        self._origin = base_url

    async def __aenter__(self) -> Browser:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.http.aclose()

    async def get(self, url: str) -> httpx.Response:
        """Go to an address; the last answer within the site, be it a redirect that leaves it."""
        return await self._follow(await self.http.get(url))

    async def send(self, page: httpx.Response, action: str, **given: str | list[str] | None) -> httpx.Response:
        """Fill in a form of a page and send it. A list ticks several boxes; None leaves a field out."""
        sending = [form for form in forms_of(page) if form.method.lower() == "post"]
        form = next(form for form in sending if urlsplit(form.action).path == action)
        fields = [(name, value) for name, value in form.fields if name not in given]
        for name, value in given.items():
            if value is not None:
                fields += [(name, one) for one in (value if isinstance(value, list) else [value])]
        target = form.action or str(page.request.url)
        encoded = str(httpx.QueryParams(fields))
        headers = {"content-type": "application/x-www-form-urlencoded", "origin": self._origin}
        return await self._follow(await self.http.post(target, content=encoded, headers=headers))

    async def sign_in(self, email: str, password: str = PASSWORD, *, page: httpx.Response | None = None):
        """Sign in, on the sign-in page or on one that led there."""
        return await self.send(page or await self.get("/sign-in"), "/sign-in", email=email, password=password)

    async def _follow(self, response: httpx.Response) -> httpx.Response:
        for _ in range(10):
            location = response.headers.get("location", "")
            if not response.is_redirect or not location.startswith(("/", f"{self._origin}/")):
                return response
            response = await self.http.get(location)
        raise AssertionError("too many redirects")
