"""Where a request comes from, for counting attempts."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from starlette.requests import Request

_LONGEST = 64
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def client_address(request: Request, proxies: Sequence[Network]) -> str:
    """Return the nearest address that is none of our proxies: what a stranger writes into the header counts not."""
    direct = request.client.host if request.client else ""
    forwarded = ",".join(request.headers.getlist("x-forwarded-for")).split(",") if proxies else []
    for address in [direct, *(_without_port(part.strip()) for part in reversed(forwarded) if part.strip())]:
        if not _is_one_of(address, proxies):
            return _whose(address)
    return _whose(direct)


def _without_port(address: str) -> str:
    if address.startswith("["):
        return address[1:].partition("]")[0]
    return address.partition(":")[0] if address.count(":") == 1 else address


def _whose(address: str) -> str:
    """Return what stands for one subscriber: an IPv4 address, or the /64 that each of IPv6 has to itself."""
    found = _read(address)
    if found is None:
        return address[:_LONGEST]
    return str(found) if found.version == 4 else str(ipaddress.ip_network((found, 64), strict=False))


def _read(address: str) -> Address | None:
    """Return an address; one of IPv4 in IPv6's clothes as what it is."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    return found.ipv4_mapped or found if isinstance(found, ipaddress.IPv6Address) else found


def _is_one_of(address: str, proxies: Sequence[Network]) -> bool:
    found = _read(address)
    return found is not None and any(found in network for network in proxies)
