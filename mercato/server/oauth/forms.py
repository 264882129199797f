"""Parameters of a request: each once, as OAuth has it."""

from __future__ import annotations

from urllib.parse import parse_qsl

from starlette.requests import Request

from mercato.server.oauth.errors import OAuthError

_MOST_FIELDS = 100
_MOST_BYTES = 64 * 1024
_FORM = "application/x-www-form-urlencoded"


def parameters(encoded: str) -> dict[str, str]:
    """Return the parameters of a query or form. Empty ones count as absent (RFC 6749, 3.1).

    Raises `OAuthError` where one is given twice, unless both say the same: some clients repeat `resource`.
    """
    found: dict[str, str] = {}
    for name, value in pairs(encoded):
        if not value:
            continue
        if found.get(name, value) != value:
            code = "invalid_target" if name == "resource" else "invalid_request"
            raise OAuthError(code, f"The parameter {name} is given more than once.")
        found[name] = value
    return found


def pairs(encoded: str) -> list[tuple[str, str]]:
    """Return names and values in their order. Raises `OAuthError` where there are too many, or not UTF-8."""
    try:
        found = parse_qsl(encoded, keep_blank_values=True, max_num_fields=_MOST_FIELDS, errors="strict")
    except ValueError:
        found = [("", "\0")]
    if any("\0" in part for pair in found for part in pair):
        raise OAuthError("invalid_request", "The parameters cannot be read.")
    return found


async def form(request: Request) -> dict[str, str]:
    """Return the parameters of a request's form. Raises `OAuthError`."""
    return parameters(await form_text(request))


async def form_text(request: Request) -> str:
    """Return a request's form as it came. Raises `OAuthError` where it is none."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        raise OAuthError("invalid_request", f"The Content-Type must be {_FORM}.")
    body = await request.body()
    if len(body) > _MOST_BYTES:
        raise OAuthError("invalid_request", f"A form may have {_MOST_BYTES:,} bytes at most.")
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise OAuthError("invalid_request", "The form is not UTF-8.") from None
