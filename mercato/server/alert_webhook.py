"""The webhook that alerts are sent to: one POST of JSON for each notice, signed as Standard Webhooks are."""

from __future__ import annotations

import base64
import binascii
import hmac
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import orjson

_PREFIX = "whsec_"
_TIMEOUT_S = 10


class NotTaken(Exception):
    """The receiver did not take a notice. The text never has the address, which may hold a secret."""


@dataclass(frozen=True, slots=True)
class AlertWebhook:
    """Where notices go, and what signs them; without a secret they are not signed."""

    http: httpx.AsyncClient
    url: str = field(repr=False)
    secret: str | None = field(default=None, repr=False)

    async def post(self, message_id: str, body: Mapping[str, Any]) -> None:
        """Send one notice. Raises `NotTaken`; the receiver knows a notice that comes again by its `message_id`."""
        content, sent_at = orjson.dumps(body), int(time.time())
        headers = {
            "content-type": "application/json",
            "webhook-id": message_id,
            "webhook-timestamp": str(sent_at),
        }
        if self.secret is not None:
            headers["webhook-signature"] = signature(self.secret, message_id, sent_at, content)
        try:
            response = await self.http.post(self.url, content=content, headers=headers, timeout=_TIMEOUT_S)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise NotTaken(f"the webhook of alerts could not be reached: {type(error).__name__}") from None
        if not response.is_success:
            raise NotTaken(f"the webhook of alerts answered {response.status_code}")


def signature(secret: str, message_id: str, sent_at: int, content: bytes) -> str:
    """Return the value of `webhook-signature`: HMAC-SHA256 over the id, the time and the body, in base64."""
    signed = b".".join((message_id.encode(), str(sent_at).encode(), content))
    return "v1," + base64.b64encode(hmac.digest(_key(secret), signed, "sha256")).decode()


def _key(secret: str) -> bytes:
    """A secret that begins with `whsec_` is base64, as others write it; any other is taken as it is."""
    if secret.startswith(_PREFIX):
        try:
            return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
        except binascii.Error:
            pass
    return secret.encode()
