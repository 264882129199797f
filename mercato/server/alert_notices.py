"""Notices: what is told of an alert, to the log and to the webhook, in the same words."""

from __future__ import annotations

from typing import Any

import structlog

from mercato.server.alert_webhook import AlertWebhook
from mercato.server.runtime import Runtime
from mercato.tenancy.alerts import Shown, Word
from mercato.tenancy.rows import utc_now

log = structlog.stdlib.get_logger(__name__)


def log_notice(alert: Shown, word: Word) -> None:
    """Write it to the log: an error where it is critical, a warning where it is not, and a line where it is over."""
    level = "info" if word == "resolved" else "error" if alert.severity == "critical" else "warning"
    known = {"alert_id": alert.id, "key": alert.key, "severity": alert.severity, "tenant": alert.tenant}
    getattr(log, level)(f"alert {word}: {alert.text}", **known, occurrences=alert.occurrences)


async def post_notice(runtime: Runtime, alert: Shown, word: Word, number: int) -> bool:
    """Send it to the webhook, if there is one; return whether there is. Raises `NotTaken`."""
    settings = runtime.settings
    if settings.alert_webhook_url is None:
        return False
    secret = settings.alert_webhook_secret
    webhook = AlertWebhook(
        runtime.contexts.http,
        settings.alert_webhook_url.get_secret_value(),
        None if secret is None else secret.get_secret_value(),
    )
    await webhook.post(f"alert-{alert.id}-{number}", _payload(runtime, alert, word, number))
    return True


def _payload(runtime: Runtime, alert: Shown, word: Word, number: int) -> dict[str, Any]:
    """`text` at the top is what chat services show of a message that comes in."""
    whose = "" if alert.tenant is None else f" ({alert.tenant})"
    return {
        "type": f"alert.{word}",
        "timestamp": utc_now(),
        "text": f"{alert.severity if word != 'resolved' else 'resolved'}{whose}: {alert.text}",
        "data": {
            "id": alert.id,
            "key": alert.key,
            "severity": alert.severity,
            "text": alert.text,
            "tenant": alert.tenant,
            "server": runtime.site.issuer,
            "notice": number,
            "occurrences": alert.occurrences,
            "first_at": alert.first_at,
            "last_at": alert.last_at,
            "resolved_at": alert.resolved_at,
            "resolved_by": alert.resolved_by,
        },
    }
