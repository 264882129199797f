"""The address itself: its form, and whether it leads anywhere."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import urllib.request
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mercato.server.doctor.address import is_loopback, is_safe
from mercato.server.doctor.finding import Finding, fault, ok, warning

if TYPE_CHECKING:
    from mercato.server.doctor.examination import Examination

Resolve = Callable[[str], Awaitable[list[str]]]
"""From a host name to its IP addresses; none where it is unknown."""


class UnusableUrl(ValueError):
    """The address is none that can be examined."""


def check_url(url: str) -> str:
    """Return an address that can be examined. Raises `UnusableUrl`."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or url != url.strip() or any(character.isspace() for character in url):
        raise UnusableUrl("This is no address to examine: give one like https://mcp.example.com/mcp.")
    if parts.username is not None or parts.password is not None:
        raise UnusableUrl("Clients take no password in the address: leave it out.")
    return url


async def check_endpoint(examination: Examination) -> list[Finding]:
    """Check the form of the address, then its host name."""
    return [*form_of(examination.url), *await _host(examination)]


def form_of(url: str) -> list[Finding]:
    """Return what is wrong with an address as it is written."""
    parts, found = urlsplit(url), []
    if not is_safe(url):
        found.append(fault("http: clients accept it only on loopback", "Serve it by https and type https://."))
    if "#" in url:
        found.append(fault("it has a fragment (#…)", "Leave it out: a resource's address has none."))
    if not parts.path.strip("/"):
        found.append(warning("it has no path", "Type the whole address of the endpoint, as a rule with /mcp."))
    elif parts.path.endswith("/"):
        found.append(warning("it ends in a slash", "Leave the slash out: some clients do, and then compare."))
    return found or [ok("its form is right")]


async def _host(examination: Examination) -> list[Finding]:
    url, host = examination.url, urlsplit(examination.url).hostname or ""
    if is_loopback(url):
        examination.reachable = True
        return [ok(f"{host} is this machine; only clients on it can connect")]
    addresses = await examination.resolve(host)
    examination.reachable = bool(addresses) or _through_proxy(url)
    if not addresses and examination.reachable:
        return [ok(f"{host} is left to the proxy that this machine goes through")]
    return addresses_of(host, addresses)


def addresses_of(host: str, addresses: list[str]) -> list[Finding]:
    """Return what clients can make of a host's addresses."""
    if not addresses:
        return [fault(f"{host} does not resolve", "Add the host to the DNS, or correct the name.")]
    fourth = [address for address in addresses if ipaddress.ip_address(address).version == 4]
    if not fourth:
        return [fault(f"{host} has no IPv4 address", "Add an A record: Claude reaches servers by IPv4 only.")]
    if all(ipaddress.ip_address(address).is_private for address in fourth):
        mend = "Claude, ChatGPT and other hosted clients need a public address; those on this network do not."
        return [warning(f"{host} has only private addresses here", mend)]
    return [ok(f"{host} resolves, by IPv4 too")]


async def resolve_addresses(host: str) -> list[str]:
    """Ask the system's resolver."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return list(dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found))


def _through_proxy(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(parts.hostname or "")
