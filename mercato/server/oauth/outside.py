"""Reading a document from outside, at an address that a stranger has chosen.

https only, to public addresses only: the name is resolved once, every address it has must be public, and the
connection goes to the very address that was checked. No redirect is followed, no proxy or cookie used, and both size
and time are bounded.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import ipaddress
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import urlsplit

import anyio
import httpx

MOST_BYTES = 5 * 1024
LONGEST_S = 5
_AT_ONCE, _AT_ONCE_OF_A_HOST, _LOOKUPS_AT_ONCE = 40, 2, 8
_PORTS = {443, 8443}

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Returns the addresses of a host. Raises `OSError`."""


class Unreachable(Exception):
    """The document could not be read; the text says why, and may be shown."""


class Crowded(Unreachable):
    """It was not even tried: too much is being read at this moment."""


@dataclass(slots=True)
class _Host:
    """What is being read from one host, a little at a time."""

    slots: anyio.Semaphore = field(default_factory=lambda: anyio.Semaphore(_AT_ONCE_OF_A_HOST))
    users: int = 0


@dataclass(frozen=True, slots=True)
class Document:
    """What was read. `body` is None where it has not changed since the `etag` that was sent."""

    body: bytes | None
    headers: Mapping[str, str]


class Outside:
    """Reads documents. Tests give their own transport and resolver; nothing lets a private address through."""

    def __init__(self, transport: httpx.AsyncBaseTransport | None = None, resolve: Resolve | None = None) -> None:
        self._client = httpx.AsyncClient(
            transport=transport, trust_env=False, follow_redirects=False, timeout=LONGEST_S, cookies=None
        )
        self._client.headers["User-Agent"] = f"mercato/{importlib.metadata.version('mercato')}"
        # Of its own: names that strangers choose may take for ever to look up, and the loop's threads serve everybody.
        self._lookups = ThreadPoolExecutor(_LOOKUPS_AT_ONCE, thread_name_prefix="mercato-names")
        self._resolve = resolve or partial(_resolve, self._lookups)
        self._limiter = anyio.CapacityLimiter(_AT_ONCE)
        self._hosts: dict[str, _Host] = {}

    async def read(self, url: str, *, etag: str | None = None, most_bytes: int = MOST_BYTES) -> Document:
        """Read a document. Raises `Unreachable`; `Crowded` where nothing was tried, so that it may be soon."""
        host, port = _host_of(url)
        tried = False
        try:
            with anyio.fail_after(LONGEST_S):
                async with self._slot(host):
                    tried = True
                    address = await self._public_address(host, port)
                    return await self._get(url, host, address, etag, most_bytes)
        except TimeoutError:
            if not tried:
                raise Crowded("Too much is being read at this moment: try again.") from None
            raise Unreachable(f"{host} did not answer within {LONGEST_S} seconds.") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError):
            raise Unreachable(f"{host} could not be reached.") from None

    @asynccontextmanager
    async def _slot(self, name: str) -> AsyncIterator[None]:
        """Wait until this host may be asked, and anything at all."""
        host = self._hosts.setdefault(name, _Host())
        host.users += 1
        try:
            async with host.slots, self._limiter:
                yield
        finally:
            host.users -= 1
            if not host.users:
                self._hosts.pop(name, None)

    async def aclose(self) -> None:
        """Close its connections."""
        self._lookups.shutdown(wait=False, cancel_futures=True)
        await self._client.aclose()

    async def _public_address(self, host: str, port: int) -> str:
        addresses = await self._resolve(host, port)
        if not addresses or not all(map(_is_public, addresses)):
            raise Unreachable(f"{host} is not a public address.")
        return addresses[0]

    async def _get(self, url: str, host: str, address: str, etag: str | None, most_bytes: int) -> Document:
        pinned = httpx.URL(url).copy_with(host=address)
        headers = {"Host": urlsplit(url).netloc, "Accept": "application/json", "Connection": "close"}
        headers["Accept-Encoding"] = "identity"  # a few compressed bytes can be a great many
        if etag:
            headers["If-None-Match"] = etag
        # The certificate is checked against the name, although the connection goes to the address.
        request = self._client.build_request("GET", pinned, headers=headers, extensions={"sni_hostname": host})
        response = await self._client.send(request, stream=True)
        try:
            if response.status_code == 304 and etag:
                return Document(None, response.headers)
            if response.status_code != 200:
                raise Unreachable(f"{host} answered {response.status_code}.")
            return Document(await _bounded(response, host, most_bytes), response.headers)
        finally:
            await response.aclose()


async def _bounded(response: httpx.Response, host: str, most_bytes: int) -> bytes:
    if response.headers.get("content-encoding", "identity") != "identity":
        raise Unreachable(f"{host} answered in a compressed form, which was not asked for.")
    body = b""
    async for part in response.aiter_bytes():
        body += part
        if len(body) > most_bytes:
            raise Unreachable(f"The document of {host} is longer than {most_bytes:,} bytes.")
    return body


def _host_of(url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url)
        port = parts.port or 443
    except ValueError:
        raise Unreachable("This is no URL.") from None
    if parts.scheme != "https" or not parts.hostname or parts.username is not None or port not in _PORTS:
        raise Unreachable("Only https is read, at its usual port.")
    return parts.hostname, port


def _is_public(address: str) -> bool:
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address) and found.is_site_local:  # deprecated, and still somebody's inside
        return False
    inner = _embedded(found)
    return all(one.is_global and not one.is_multicast and not one.is_reserved for one in (found, *inner))


def _embedded(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> list[ipaddress.IPv4Address]:
    """Return the IPv4 addresses that an IPv6 address stands for: mapped, 6to4, Teredo and NAT64."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    found = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in ipaddress.ip_network("64:ff9b::/96"):
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return [one for one in found if one is not None]


async def _resolve(threads: Executor, host: str, port: int) -> Sequence[str]:
    look_up = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    found = await asyncio.get_running_loop().run_in_executor(threads, look_up)
    addresses = [str(item[4][0]) for item in found]
    return sorted(dict.fromkeys(addresses), key=lambda address: ":" in address)  # IPv4 first: it is there everywhere
