"""Settings of a deployment: read from the environment once, at start, and passed down."""

from __future__ import annotations

import ipaddress
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from mercato.server.engines import default_data_dir
from mercato.tenancy.limits import MOST, NAMES, STANDARD, Limits
from mercato.tenancy.secrets import KeyRing, new_key
from mercato.tools.arguments import reason_of

_ORIGIN = re.compile(r"https?://[^/\s,]+/?")
_SERVED = "served.url"
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[\w.-]+)(:\d+)?")
Names = Annotated[tuple[str, ...], NoDecode]
AMinute = Annotated[int, Field(ge=1, le=MOST)]


@dataclass(frozen=True, slots=True)
class OidcSettings:
    """An OpenID provider that people may sign in with, and who we are there."""

    discovery_url: str
    client_id: str
    client_secret: str = dataclass_field(repr=False)
    name: str = "single sign-on"


class SettingsError(Exception):
    """The environment holds something that cannot be used; the text names the variable."""


class Settings(BaseSettings):
    """Everything an operator can set, as `MERCATO_<NAME>`; `DATABASE_URL` and `REDIS_URL` are called as everywhere."""

    model_config = SettingsConfigDict(env_prefix="MERCATO_", frozen=True, extra="ignore", populate_by_name=True)

    data_dir: Path = Field(default_factory=default_data_dir, description="Where embedded engines and keys live.")
    database_url: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("DATABASE_URL", "database_url"),
        description="PostgreSQL 17 or newer; nothing embedded starts.",
    )
    redis_url: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("REDIS_URL", "redis_url"),
        description="Redis or Valkey; nothing embedded starts.",
    )
    run_as: str = Field(default="nobody", description="The user that the embedded engines run as, where we are root.")
    host: str = Field(default="127.0.0.1", description="The address to listen on.")
    port: int = Field(default=8765, ge=0, le=65535, description="The port to listen on; 0 picks a free one.")
    public_url: str | None = Field(default=None, description="What people type, such as https://mcp.example.com.")
    allowed_hosts: Names = Field(default=(), description="Further Host headers to accept, separated by commas.")
    allowed_origins: Names = Field(default=(), description="Browser origins that may call, separated by commas.")
    trusted_proxies: Names = Field(
        default=(), description="Addresses or networks of our own proxies, whose X-Forwarded-For is believed."
    )
    oauth_schemes: Names = Field(
        default=("cursor", "vscode", "vscode-insiders", "windsurf", "zed"),
        description="Private URL schemes that OAuth clients on a person's computer may be redirected to.",
    )
    oidc_discovery_url: str | None = Field(
        default=None, description="An OpenID provider to sign in with: its `/.well-known/openid-configuration`."
    )
    oidc_client_id: str | None = Field(default=None, description="Our client id there.")
    oidc_client_secret: SecretStr | None = Field(default=None, description="Our client secret there.")
    oidc_name: str = Field(default="single sign-on", description="What the button says after `Continue with`.")
    max_body_bytes: int = Field(default=4 * 1024 * 1024, ge=1024, description="The longest request body.")
    secret_keys: SecretStr | None = Field(
        default=None, description="Keys in base64, separated by commas; the first seals. Needed by several replicas."
    )
    plugins_blocked: Names = Field(default=(), description="Plugins not to load, separated by commas.")
    database_pool: int = Field(
        default=10,
        ge=1,
        le=200,
        description="Database connections of one process: so many to read, to write (twice for a moment), for itself.",
    )
    limit_tenant: AMinute = Field(default=STANDARD.tenant, description="Calls a minute of a tenant.")
    limit_caller: AMinute = Field(default=STANDARD.caller, description="Calls a minute of one person or key.")
    limit_read: AMinute = Field(default=STANDARD.read, description="Calls a minute of tools that read.")
    limit_write: AMinute = Field(default=STANDARD.write, description="Calls a minute of tools that write.")
    limit_heavy: AMinute = Field(default=STANDARD.heavy, description="Calls a minute of tools that cost much.")
    limit_lists: AMinute = Field(default=STANDARD.lists, description="Lists a minute, and other small answers.")
    limit_cents_per_day: int = Field(
        default=STANDARD.cents_per_day,
        ge=0,
        le=MOST,
        description="Cents a day that a tenant may spend.",
    )
    job_slots: int = Field(
        default=20, ge=0, le=500, description="How many jobs `mercato serve` runs at once beside serving; 0 for none."
    )
    usage_kept_months: int | None = Field(
        default=None, ge=1, le=1_200, description="How many whole months of usage are kept; else all."
    )
    audit_kept_days: int | None = Field(
        default=None, ge=30, le=36_500, description="How many days of the audit log are kept; else all."
    )
    alert_webhook_url: SecretStr | None = Field(
        default=None, description="Where alerts are sent: https, or http on this machine."
    )
    alert_webhook_secret: SecretStr | None = Field(
        default=None, min_length=16, description="What signs what is sent there (Standard Webhooks)."
    )
    sse: bool = Field(default=True, description="Whether clients of 2024-11-05 are served too, at /sse.")
    session_idle_s: int = Field(
        default=1_800, ge=60, le=7 * 86_400, description="After how many idle seconds a session of a client ends."
    )
    question_timeout_s: int = Field(
        default=300, ge=1, le=86_400, description="How many seconds a client may take to answer a question."
    )
    metrics_port: int | None = Field(
        default=None, ge=1, le=65535, description="A port of its own for /metrics, which Prometheus reads."
    )
    metrics_host: str = Field(default="127.0.0.1", description="The address that this port is on.")
    metrics_key: SecretStr | None = Field(
        default=None,
        min_length=16,
        description="Who sends this as a bearer token may read /metrics; else there is none.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least that is logged."
    )

    def __init__(self, **values: object) -> None:
        for name in ("allowed_hosts", "allowed_origins", "trusted_proxies", "oauth_schemes", "plugins_blocked"):
            if name not in values and (text := os.environ.get(f"MERCATO_{name.upper()}")) is not None:
                values[name] = tuple(part.strip() for part in text.split(",") if part.strip())
        try:
            super().__init__(**values)  # type: ignore[arg-type]  # values come from tests and the command line
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            if not first["loc"]:  # settings that do not go together
                raise SettingsError(f"{first['ctx']['error']}.") from None
            name = str(first["loc"][0])
            variable = name if name.isupper() else f"MERCATO_{name.upper()}"
            allowed = f" (it must be {first['ctx']['expected']})" if first["type"] == "literal_error" else ""
            raise SettingsError(f"{variable} cannot be used: the value {reason_of(first)}{allowed}.") from None

    @field_validator("public_url")
    @classmethod
    def _check_public_url(cls, url: str | None) -> str | None:
        if url is None:
            return None
        parts = urlsplit(url.rstrip("/"))
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path or parts.query or parts.fragment:
            raise ValueError("it must be like https://mcp.example.com, without a path")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        usual = parts.port in {None, 443 if parts.scheme == "https" else 80}
        return f"{parts.scheme}://{host}" if usual else f"{parts.scheme}://{host}:{parts.port}"

    @field_validator("alert_webhook_url")
    @classmethod
    def _check_webhook(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None:
            parts = urlsplit(url.get_secret_value())
            is_here = parts.scheme == "http" and parts.hostname in {"127.0.0.1", "::1", "localhost"}
            if not parts.hostname or not (parts.scheme == "https" or is_here):
                raise ValueError("it must begin with https://, or with http:// for this machine alone")
        return url

    @field_validator("allowed_origins")
    @classmethod
    def _check_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(f"{origin!r} is no origin such as https://app.example.com")
        return origins

    @field_validator("allowed_hosts")
    @classmethod
    def _check_hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for host in hosts:
            if not _HOST.fullmatch(host):
                raise ValueError(f"{host!r} is no host such as mcp.example.com or mcp.example.com:8443")
        return hosts

    @field_validator("trusted_proxies")
    @classmethod
    def _check_proxies(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        for proxy in proxies:
            try:
                ipaddress.ip_network(proxy)
            except ValueError:
                raise ValueError(f"{proxy!r} is no address or network such as 10.0.0.0/8") from None
        return proxies

    @field_validator("oauth_schemes")
    @classmethod
    def _check_schemes(cls, schemes: tuple[str, ...]) -> tuple[str, ...]:
        for scheme in schemes:
            if not _SCHEME.fullmatch(scheme) or scheme in {"javascript", "data", "vbscript", "file", "http", "https"}:
                raise ValueError(f"{scheme!r} is no private scheme such as cursor")
        return schemes

    @model_validator(mode="after")
    def _check_oidc(self) -> Self:
        given = (self.oidc_discovery_url, self.oidc_client_id, self.oidc_client_secret)
        if any(given) and not all(given):
            raise ValueError("MERCATO_OIDC_DISCOVERY_URL, _CLIENT_ID and _CLIENT_SECRET belong together")
        return self

    @property
    def limits(self) -> Limits:
        """What holds for every tenant that has no limits of its own."""
        return Limits(**{name: getattr(self, f"limit_{name}") for name in NAMES})

    @property
    def proxies(self) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
        """The networks of our own proxies."""
        return tuple(ipaddress.ip_network(proxy) for proxy in self.trusted_proxies)

    @property
    def oidc(self) -> OidcSettings | None:
        """The OpenID provider to sign in with, where there is one."""
        if self.oidc_discovery_url is None or self.oidc_client_id is None or self.oidc_client_secret is None:
            return None
        secret = self.oidc_client_secret.get_secret_value()
        return OidcSettings(self.oidc_discovery_url, self.oidc_client_id, secret, self.oidc_name)

    @property
    def served_url(self) -> str | None:
        """Where the server of this data directory is reached, for links that commands print; None if unknown."""
        if self.public_url is not None:
            return self.public_url
        try:
            return (self.data_dir / _SERVED).read_text().strip() or None
        except OSError:
            return None

    def note_served(self, url: str) -> None:
        """Note where the server is reached. Where the directory cannot be written, commands take their settings."""
        with suppress(OSError):
            (self.data_dir / _SERVED).write_text(url)

    def forget_served(self, url: str) -> None:
        """Forget that address, unless another server has noted its own meanwhile."""
        with suppress(OSError):
            if (self.data_dir / _SERVED).read_text() == url:
                (self.data_dir / _SERVED).unlink()

    def key_ring(self) -> KeyRing:
        """Return the keys: those of the environment, or the one kept in the data directory, made at first use."""
        if self.secret_keys is not None:
            return KeyRing.from_text(self.secret_keys.get_secret_value())
        path = self.data_dir / "secret.key"
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return KeyRing.from_text(path.read_text())
        except OSError as error:
            raise SettingsError(
                f"The key file {path} cannot be made ({error.strerror}): set MERCATO_SECRET_KEYS or MERCATO_DATA_DIR."
            ) from None
        with os.fdopen(descriptor, "w") as file:
            file.write(new_key())
        return KeyRing.from_text(path.read_text())
