"""The person whom a client sends to a browser: `python -m tests.clients.person ADDRESS` signs in, ticks and allows."""

from __future__ import annotations

import asyncio
import sys
from urllib.parse import parse_qs, urlsplit

import httpx

from tests.server.browser import Browser

EMAIL = "owner@demo.example"
CATEGORY = "commerce"


async def allow(address: str) -> None:
    """Let a client in, with one category and no writing, and go back to it."""
    parts = urlsplit(address)
    async with Browser(f"{parts.scheme}://{parts.netloc}") as browser:
        consent = await browser.sign_in(EMAIL, page=await browser.get(address))
        left = await browser.send(consent, "/authorize", decision="allow", category=CATEGORY, write=None)
    print("allowed", *parse_qs(parts.query)["client_id"], flush=True)
    await arrive(left.headers["location"])


async def arrive(location: str) -> None:
    """Go back to where the client listens, as a browser goes."""
    async with httpx.AsyncClient(timeout=20, follow_redirects=True) as http:
        (await http.get(location)).raise_for_status()


if __name__ == "__main__":
    asyncio.run(allow(sys.argv[1]))
