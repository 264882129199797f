"""`mercato client`: OAuth clients."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mercato.server.cli.session import AsJson, DataDir, read_settings, with_runtime
from mercato.server.cli.terminal import say, say_either, say_json, say_table, stop

if TYPE_CHECKING:
    from mercato.server.runtime import Runtime

app = typer.Typer(help="Make, list and remove OAuth clients.", no_args_is_help=True)


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="Its name, as people read it when they decide.")],
    redirect_uri: Annotated[
        list[str], typer.Option(help="Where it may send people back to; repeat for several. Compared letter by letter.")
    ],
    public: Annotated[
        bool, typer.Option("--public", help="It can keep no secret: a program on people's devices.")
    ] = False,
    jwks: Annotated[
        Path | None, typer.Option(help="A file with its public keys (JWKS): it signs instead of having a secret.")
    ] = None,
    jwks_uri: Annotated[str | None, typer.Option(help="The same, at an https address.")] = None,
    introspects: Annotated[
        bool,
        typer.Option("--introspects", help="It is a resource server of ours, and may ask what tokens are good for."),
    ] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Make a client for what cannot register itself; its secret is shown this once."""
    if public and (jwks or jwks_uri or introspects):
        stop("--public goes with none of --jwks, --jwks-uri and --introspects: such a client proves nothing.")
    method = "none" if public else "private_key_jwt" if jwks or jwks_uri else "client_secret_basic"
    keys = _read_keys(jwks) if jwks else None
    given = {"client_name": name, "redirect_uris": redirect_uri, "token_endpoint_auth_method": method}
    metadata = {**given, **({"jwks": keys} if keys else {}), **({"jwks_uri": jwks_uri} if jwks_uri else {})}

    async def work(runtime: Runtime) -> dict[str, Any]:
        from mercato.server.oauth.register import new_client
        from mercato.tenancy.clients import ClientKind, add_client

        client, secret = new_client(metadata, runtime.oauth.schemes)
        client.kind, client.introspects = ClientKind.STATIC, introspects
        await add_client(runtime.database, client)
        return {"client_id": client.client_id, "client_secret": secret, "redirect_uris": client.redirect_uris}

    made = with_runtime(read_settings(data_dir), work)
    if as_json:
        say_json({key: value for key, value in made.items() if value is not None})
        return
    say(f"Client {made['client_id']} ({name}).")
    if made["client_secret"]:
        say("Its secret is not shown again:")
        say(f"  {made['client_secret']}")


@app.command("list")
def list_(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """List the clients that are known; never their secrets."""
    columns = ("client_id", "kind", "name", "auth_method", "redirect_uris", "introspects", "created_at")

    async def work(runtime: Runtime) -> list[dict[str, Any]]:
        from mercato.tenancy.clients import list_clients

        return [
            {column: getattr(client, column) for column in columns} for client in await list_clients(runtime.database)
        ]

    clients = with_runtime(read_settings(data_dir), work)
    if as_json:
        say_json(clients)
    else:
        shown = [[" ".join(one[name]) if name == "redirect_uris" else one[name] for name in columns] for one in clients]
        say_table("OAuth clients", columns, shown)


@app.command("remove")
def remove(
    client_id: Annotated[str, typer.Argument(help="Its id, as `mercato client list` shows it.")],
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Remove a client, and end everything that anybody allowed it: it is refused at its next call."""

    async def work(runtime: Runtime) -> int:
        from mercato.server.changes import Change
        from mercato.tenancy.clients import remove_client

        tenants = await remove_client(runtime.database, client_id)
        for tenant_id in tenants:
            await runtime.changes.publish(Change("access", tenant_id))
        return len(tenants)

    tenants = with_runtime(read_settings(data_dir), work)
    said = {"client_id": client_id, "removed": True, "tenants": tenants}
    say_either(as_json, said, f"{client_id} is removed; it had access to {tenants} tenants.")


def _read_keys(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        stop(f"{path} cannot be read as JSON ({error}).")
