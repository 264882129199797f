"""Settings of a deployment: read from the environment once, at start, and passed down."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from mercato.server.engines import default_data_dir
from mercato.tenancy.secrets import KeyRing, new_key
from mercato.tools.arguments import reason_of

_ORIGIN = re.compile(r"https?://[^/\s,]+/?")
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[\w.-]+)(:\d+)?")
Names = Annotated[tuple[str, ...], NoDecode]


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
    max_body_bytes: int = Field(default=4 * 1024 * 1024, ge=1024, description="The longest request body.")
    secret_keys: SecretStr | None = Field(
        default=None, description="Keys in base64, separated by commas; the first seals. Needed by several replicas."
    )
    plugins_blocked: Names = Field(default=(), description="Plugins not to load, separated by commas.")
    database_pool: int = Field(default=10, ge=1, le=200, description="Database connections of one process.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least that is logged."
    )

    def __init__(self, **values: object) -> None:
        for name in ("allowed_hosts", "allowed_origins", "plugins_blocked"):
            if name not in values and (text := os.environ.get(f"MERCATO_{name.upper()}")) is not None:
                values[name] = tuple(part.strip() for part in text.split(",") if part.strip())
        try:
            super().__init__(**values)  # type: ignore[arg-type]  # values come from tests and the command line
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
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
        return url.rstrip("/")

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
