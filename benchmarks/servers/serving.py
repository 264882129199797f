"""How every peer is served: uvicorn with uvloop and httptools, no access log, on a free port of loopback."""

from __future__ import annotations

import json
import socket
from typing import Any

import uvicorn


def serve(app: Any, **options: Any) -> None:
    """Serve until ended, after telling the port in one line of JSON. Connections wait until the application is up."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
    config = uvicorn.Config(
        app, loop="uvloop", http="httptools", ws="none", access_log=False, log_level="warning", **options
    )
    uvicorn.Server(config).run(sockets=[listener])
