"""Templates and static files, read once."""

from __future__ import annotations

import hashlib
import mimetypes
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

HERE = Path(__file__).parent
_FOREVER = "public, max-age=31536000, immutable"


class Templates:
    """Renders pages, each with headers that let it do nothing but show itself and send its forms to us."""

    def __init__(self) -> None:
        self._static = {path.name: path.read_bytes() for path in sorted((HERE / "static").iterdir()) if path.is_file()}
        version = hashlib.sha256(b"".join(self._static.values())).hexdigest()[:12]
        self.static_path = f"/static/{version}"
        self._environment = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters["when"] = shown_time
        self._environment.globals["static"] = self.static_path

    def response(
        self, name: str, context: Mapping[str, Any], *, status: int = 200, form_action: str | None = None
    ) -> Response:
        """Return a page. `form_action` is one more place that a form's answer may lead to."""
        text = self._environment.get_template(name).render(context)
        return HTMLResponse(text, status_code=status, headers=page_headers(form_action))

    async def static(self, request: Request) -> Response:
        """Answer a static file; its address changes with its content."""
        body = self._static.get(request.path_params["name"])
        if body is None:
            raise HTTPException(404)
        kind = mimetypes.guess_type(request.path_params["name"])[0] or "application/octet-stream"
        # Another version's page asks for it while replicas are being replaced: that answer must not be kept.
        present = self.static_path.endswith(f"/{request.path_params['version']}")
        caching = _FOREVER if present else "no-cache"
        headers = {"Cache-Control": caching, "X-Content-Type-Options": "nosniff"}
        return Response(body, media_type=kind, headers=headers)


def page_headers(form_action: str | None = None) -> dict[str, str]:
    """Return the headers of every page: nothing from elsewhere, in no frame, never kept."""
    targets = "'self'" if form_action is None else f"'self' {form_action}"
    policy = (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
        f"form-action {targets}; frame-ancestors 'none'; base-uri 'none'"
    )
    return {
        "Content-Security-Policy": policy,
        "X-Frame-Options": "DENY",
        "X-Content-Type-Options": "nosniff",
        # Not `no-referrer`: browsers then send a form's Origin as `null`, and ours could not be told from another's.
        "Referrer-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cache-Control": "no-store",
    }


def shown_time(time: datetime | None) -> str:
    """Return a time as pages show it."""
    return "never" if time is None else f"{time.astimezone(UTC):%-d %b %Y, %H:%M} UTC"
