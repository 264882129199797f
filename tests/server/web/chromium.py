"""Debian's Chromium, driven by playwright: pages of one person, and what must be true of every page."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.async_api import Browser, ConsoleMessage, Page, async_playwright

from tests.server.conftest import Site

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
AUDIT = (Path(__file__).parent / "audit.js").read_text()
NARROW, SHORT = 320, 640
"""The smallest screen (in CSS pixels) that WCAG 2.2 (1.4.10) asks for."""
_LONGEST_WAIT_MS = 10_000


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Start it. Fails where there is none: these tests are never left out."""
    executable = shutil.which("chromium") or shutil.which("chromium-browser")
    if executable is None:
        pytest.fail("There is no Chromium, which the tests of the pages need; on Debian: apt install chromium.")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=executable, args=list(FLAGS))
        try:
            yield browser
        finally:
            await browser.close()


@dataclass(frozen=True)
class Screens:
    """Opens pages in a browser; where a test fails, `tmp_path` gets a picture of what it saw last."""

    browser: Browser
    site: Site
    tmp_path: Path

    @asynccontextmanager
    async def open(
        self,
        session: str | None = None,
        *,
        site: Site | None = None,
        javascript: bool = True,
        scheme: Literal["light", "dark"] = "light",
        forgiven: str | None = None,
    ) -> AsyncIterator[Page]:
        """Open a page of a browser that is new, or signed in with `session`.

        At its end the browser may have complained of nothing, but for what begins with `forgiven`.
        """
        base = (site or self.site).url
        context = await self.browser.new_context(
            base_url=base, java_script_enabled=javascript, color_scheme=scheme, reduced_motion="reduce"
        )
        context.set_default_timeout(_LONGEST_WAIT_MS)
        if session is not None:
            name = f"mercato_session_{base.rpartition(':')[2]}"
            await context.add_cookies([{"name": name, "value": session, "url": base, "httpOnly": True}])
        page, complaints = await context.new_page(), []
        page.on("console", lambda message: complaints.extend(_complaint(message)))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        try:
            yield page
            assert [one for one in complaints if forgiven is None or not one.startswith(forgiven)] == []
        except BaseException:
            await page.screenshot(path=self.tmp_path / "failed.png", full_page=True)
            raise
        finally:
            await context.close()


def _complaint(message: ConsoleMessage) -> list[str]:
    """Return what the browser complains of: policies, scripts, missing files. A page may have a status of its own."""
    if message.type not in {"error", "warning"}:
        return []
    its_own = message.text.startswith("Failed to load resource") and "/static/" not in message.location["url"]
    return [] if its_own else [f"{message.text} ({message.location['url']})"]


async def audit(page: Page) -> list[str]:
    """Return what is wrong with a page for people who see, hear or operate it in another way than its makers do."""
    found: list[str] = await page.evaluate(AUDIT)
    return found


async def faults(page: Page) -> list[str]:
    """Return the same, and whether it fits on the smallest screen."""
    found = await audit(page)
    size = page.viewport_size
    await page.set_viewport_size({"width": NARROW, "height": SHORT})
    widest = await page.evaluate("Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)")
    if size is not None:
        await page.set_viewport_size(size)
    return found + ([f"scrolls sideways: {widest} px on a screen of {NARROW} px"] if widest > NARROW else [])


async def tab_to(page: Page, selector: str) -> None:
    """Press Tab until the focus is there; wherever it stands meanwhile, it must be seen."""
    for _ in range(60):
        await page.keyboard.press("Tab")
        stop: dict[str, Any] = await page.evaluate(_FOCUS, selector)
        assert stop["seen"], f"no visible focus on {stop['what']}"
        if stop["there"]:
            return
    raise AssertionError(f"no way to {selector} by keyboard")


_FOCUS = """selector => {
  const element = document.activeElement;
  if (element === document.body) return { what: "body", seen: true, there: false };
  const shown = [element, element.closest("label")].filter(Boolean).map((one) => getComputedStyle(one));
  return {
    what: element.outerHTML.slice(0, 120),
    seen: shown.some((style) => style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2),
    there: element.matches(selector),
  };
}"""


class Listener:
    """A program on this computer that waits for a browser to come back to it."""

    def __init__(self) -> None:
        self.came: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        self.port = 0
        self.leads_on_to: str | None = None

    @property
    def redirect_uri(self) -> str:
        return f"http://127.0.0.1:{self.port}/callback"

    async def answer(self, timeout_s: float = 10) -> dict[str, str]:
        """Return what the browser brought."""
        return await asyncio.wait_for(self.came.get(), timeout_s)

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request of a browser."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        parts = urlsplit(head.split(" ")[1])
        if parts.path == "/callback":
            self.came.put_nowait({name: values[0] for name, values in parse_qs(parts.query).items()})
        body = b"<!doctype html><title>Back</title><p>You may close this window."
        status = f"303 See Other\r\nLocation: {self.leads_on_to}" if self.leads_on_to else "200 OK"
        writer.write(f"HTTP/1.1 {status}\r\nContent-Type: text/html\r\nConnection: close\r\n".encode())
        writer.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        await writer.drain()
        writer.close()


@asynccontextmanager
async def listener() -> AsyncIterator[Listener]:
    """Wait on a free port, as programs on a person's computer do."""
    waiting = Listener()
    server = await asyncio.start_server(waiting.take, "127.0.0.1", 0)
    async with server:
        waiting.port = server.sockets[0].getsockname()[1]
        yield waiting
