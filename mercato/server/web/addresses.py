"""Where a request comes from, for counting attempts."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from starlette.requests import Request

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def client_address(request: Request, proxies: Sequence[Network]) -> str:
    """Return the nearest address that is none of our proxies: what a stranger writes into the header counts not."""
    direct = request.client.host if request.client else ""
    forwarded = request.headers.get("x-forwarded-for", "").split(",") if proxies else []
    for address in [direct, *(part.strip() for part in reversed(forwarded))]:
        if not _is_one_of(address, proxies):
            return address
    return direct


def _is_one_of(address: str, proxies: Sequence[Network]) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(found in network for network in proxies)
