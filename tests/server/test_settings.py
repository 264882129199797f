"""Settings: what the environment may say, and what it is told when it may not."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from mercato.server.settings import Settings, SettingsError
from mercato.tenancy.errors import InvalidValue
from mercato.tenancy.secrets import new_key

PLACE = (1, "table", "column", 1)


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in list(os.environ):
        if name.startswith(("MERCATO_", "DATABASE_URL", "REDIS_URL")):
            monkeypatch.delenv(name)


def test_the_environment_is_read_by_its_names(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DATABASE_URL", "postgresql://a:hunter2@db/mercato")
    monkeypatch.setenv("MERCATO_PORT", "9000")
    monkeypatch.setenv("MERCATO_ALLOWED_ORIGINS", "https://a.example, https://b.example")
    settings = Settings()
    assert settings.port == 9000
    assert settings.allowed_origins == ("https://a.example", "https://b.example")
    assert settings.database_url.get_secret_value() == "postgresql://a:hunter2@db/mercato"
    assert "hunter2" not in repr(settings)


def test_the_command_line_comes_before_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("MERCATO_DATA_DIR", "/elsewhere")
    monkeypatch.setenv("MERCATO_PORT", "9000")
    settings = Settings(data_dir=tmp_path, port=0)
    assert (settings.data_dir, settings.port) == (tmp_path, 0)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MERCATO_PORT", "many"),
        ("MERCATO_PORT", "70000"),
        ("MERCATO_MAX_BODY_BYTES", "1"),
        ("MERCATO_LOG_LEVEL", "loud"),
        ("MERCATO_PUBLIC_URL", "nonsense"),
        ("MERCATO_PUBLIC_URL", "https://mcp.example.com/mcp"),
        ("MERCATO_ALLOWED_ORIGINS", "nonsense"),
        ("MERCATO_ALLOWED_HOSTS", "http://mcp.example.com"),
        ("MERCATO_ALERT_WEBHOOK_URL", "http://alerts.example/hook"),
        ("MERCATO_ALERT_WEBHOOK_URL", "nonsense"),
        ("MERCATO_ALERT_WEBHOOK_SECRET", "short"),
        ("MERCATO_AUDIT_KEPT_DAYS", "1"),
        ("MERCATO_USAGE_KEPT_MONTHS", "0"),
    ],
)
def test_what_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch, variable: str, value: str):
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=variable):
        Settings()


@pytest.mark.parametrize(
    "url", ["https://alerts.example/hook", "http://127.0.0.1:9000/hook", "http://[::1]/hook", "http://localhost/hook"]
)
def test_alerts_go_to_https_or_to_this_machine_and_the_address_is_kept_quiet(monkeypatch: pytest.MonkeyPatch, url: str):
    monkeypatch.setenv("MERCATO_ALERT_WEBHOOK_URL", url)
    settings = Settings()
    assert settings.alert_webhook_url is not None
    assert settings.alert_webhook_url.get_secret_value() == url
    assert url not in repr(settings)


def test_the_key_ring_is_made_once_and_kept_private(tmp_path: Path):
    settings = Settings(data_dir=tmp_path)
    sealed = settings.key_ring().seal(b"token", PLACE)
    assert settings.key_ring().open(sealed, PLACE) == b"token"
    assert stat.S_IMODE((tmp_path / "secret.key").stat().st_mode) == 0o600


def test_keys_of_the_environment_are_used_and_nothing_is_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    old, new = new_key(), new_key()
    monkeypatch.setenv("MERCATO_SECRET_KEYS", old)
    sealed = Settings(data_dir=tmp_path).key_ring().seal(b"token", PLACE)
    monkeypatch.setenv("MERCATO_SECRET_KEYS", f"{new},{old}")
    assert Settings(data_dir=tmp_path).key_ring().open(sealed, PLACE) == b"token"
    assert list(tmp_path.iterdir()) == []


def test_a_key_that_is_none_is_refused_without_showing_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("MERCATO_SECRET_KEYS", "hunter2")
    with pytest.raises(InvalidValue, match="MERCATO_SECRET_KEYS") as refusal:
        Settings(data_dir=tmp_path).key_ring()
    assert "hunter2" not in str(refusal.value)
