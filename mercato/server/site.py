"""Site: under which addresses this server is known. Decided by its settings, never by what a request claims."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from mercato.tenancy.reach import Reach

MCP_PATH = "/mcp"
SSE_PATH = "/sse"
METRICS_PATH = "/metrics"
MESSAGES_PATH = "/messages"
_READ_ONLY = "readonly"
_CATEGORIES = "x"
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_ANY = ("0.0.0.0", "::")  # noqa: S104  # compared with, not listened on
_DEFAULT_PORTS = {"http": 80, "https": 443}


class Site:
    """The one issuer, and the bases under which the same resources can be reached.

    On this computer alone, `localhost`, `127.0.0.1` and `[::1]` on the issuer's port are aliases: a client compares
    what it was told with what its person typed, so each has documents of its own. A token for one is good at all.
    """

    def __init__(self, public_url: str | None, host: str, port: int) -> None:
        suffix = "" if port == _DEFAULT_PORTS["http"] else f":{port}"
        own = "127.0.0.1" if host in _ANY or host in _LOOPBACK else f"[{host}]" if ":" in host else host
        self.issuer = public_url or f"http://{own}{suffix}"
        self._aliases = _aliases(self.issuer)
        self._bases = {_origin(base) for base in (self.issuer, *self._aliases.values())}

    @property
    def secure(self) -> bool:
        """Whether people reach it by https."""
        return self.issuer.startswith("https://")

    @property
    def cookie_suffix(self) -> str:
        """What tells our cookies from those of another server on the same host: browsers do not look at the port."""
        port = urlsplit(self.issuer).port
        return f"_{port}" if port else ""

    def url(self, path: str) -> str:
        """Return the absolute URL of one of our pages or endpoints."""
        return f"{self.issuer}{path}"

    def base(self, host: str) -> str:
        """Return the base that a request's Host stands for: one of the aliases, else the issuer itself."""
        return self._aliases.get(host.lower(), self.issuer)

    def is_own_origin(self, origin: str) -> bool:
        """Whether a browser's page of this origin is one of ours."""
        return origin.lower() in {self.issuer.lower(), *self._aliases.values()}

    def path_of(self, resource: str) -> str | None:
        """Return the path of a resource of ours, however its URL is spelled; None for anybody else's."""
        try:
            parts = urlsplit(resource)
            known = _origin(resource) in self._bases
        except ValueError:
            return None
        if not known or parts.query or parts.fragment or parts.username is not None:
            return None
        path = parts.path.rstrip("/")
        return path if is_endpoint(path) else None

    def canonical(self, resource: str) -> str | None:
        """Return a resource of ours in the one spelling that tokens have; None for anybody else's."""
        path = self.path_of(resource)
        if path is None:
            return None
        parts = urlsplit(resource)
        return f"{parts.scheme.lower()}://{parts.netloc.lower()}{path}"

    def covers(self, audience: str, path: str) -> bool:
        """Whether a token for `audience` may be used at `path`: there, or at something narrower below it."""
        allowed = self.path_of(audience)
        return allowed is not None and (path == allowed or path.startswith(f"{allowed}/"))


def _aliases(issuer: str) -> dict[str, str]:
    """Return the bases by their Host. A public issuer has none: its proxy may well send us `127.0.0.1` as Host."""
    scheme, host, port = _origin(issuer)
    if scheme != "http" or host not in {"localhost", "127.0.0.1", "::1"}:
        return {}
    suffix = "" if port == _DEFAULT_PORTS["http"] else f":{port}"
    return {f"{name}{suffix}": f"http://{name}{suffix}" for name in _LOOPBACK}


def is_endpoint(path: str) -> bool:
    """Whether a path is that of the endpoint, or below it."""
    return path == MCP_PATH or path.startswith(f"{MCP_PATH}/")


def reach_of(path: str, categories: Iterable[str]) -> Reach | None:
    """Return what an address such as `/mcp/readonly/x/commerce,content` is for; None where there is no such address."""
    parts = path.removeprefix(MCP_PATH).strip("/").split("/") if path != MCP_PATH else []
    read_only, chosen = False, None
    while parts:
        part = parts.pop(0)
        if part == _READ_ONLY and not read_only:
            read_only = True
        elif part == _CATEGORIES and chosen is None and parts:
            chosen = frozenset(parts.pop(0).split(","))
        else:
            return None
    if chosen is not None and not chosen <= set(categories):
        return None
    return Reach(read_only=read_only, categories=chosen)


def _origin(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    return parts.scheme.lower(), (parts.hostname or "").lower(), parts.port or _DEFAULT_PORTS.get(parts.scheme.lower())
