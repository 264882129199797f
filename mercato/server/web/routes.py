"""Every page, in one list."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from mercato.server.oidc import CALLBACK
from mercato.server.web import account, clients, consent, invitation, keys, oidc, setup, sign_in


def web_routes() -> Sequence[BaseRoute]:
    """Return the routes of the pages."""
    return [
        Route("/", sign_in.home, methods=["GET"]),
        Route("/sign-in", sign_in.sign_in_page, methods=["GET"]),
        Route("/sign-in", sign_in.sign_in, methods=["POST"]),
        Route("/sign-in/oidc", oidc.begin, methods=["GET"]),
        Route(CALLBACK, oidc.finish, methods=["GET"]),
        Route("/sign-out", sign_in.sign_out, methods=["POST"]),
        Route("/tenant", sign_in.choose, methods=["POST"]),
        Route("/setup", setup.setup_page, methods=["GET"]),
        Route("/setup", setup.setup, methods=["POST"]),
        Route("/invitation", invitation.invitation_page, methods=["GET"]),
        Route("/invitation", invitation.accept, methods=["POST"]),
        Route("/authorize", consent.authorize_page, methods=["GET"]),
        Route("/authorize", consent.authorize, methods=["POST"]),
        Route("/clients", clients.clients_page, methods=["GET"]),
        Route("/clients/{grant_id:int}/revoke", clients.revoke_client, methods=["POST"]),
        Route("/keys", keys.keys_page, methods=["GET"]),
        Route("/keys", keys.make_key, methods=["POST"]),
        Route("/keys/{key_id:int}/revoke", keys.revoke_one, methods=["POST"]),
        Route("/account", account.account_page, methods=["GET"]),
        Route("/account/password", account.change_password, methods=["POST"]),
        Route("/account/sign-out-everywhere", account.sign_out_everywhere, methods=["POST"]),
        Route("/static/{version}/{name}", _static, methods=["GET"]),
    ]


async def _static(request: Request) -> Response:
    response: Response = await request.app.state.web.templates.static(request)
    return response
