"""fastmcp, from an environment of its own: the same functions, registered in the way that its users do."""

from __future__ import annotations

import argparse

from fastmcp import FastMCP
from mercato_bench.shape import names, plain_tool

from benchmarks.servers.serving import serve

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, required=True)
    options = parser.parse_args()
    server = FastMCP("bench")
    for name, description in names(options.count):
        server.tool(plain_tool(name, description))
    serve(server.http_app(path="/mcp", stateless_http=True, json_response=True))
