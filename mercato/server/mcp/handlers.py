"""The catalogue's side of every MCP method: list, call, read, get, complete, listen."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Awaitable, Callable, Container
from typing import Any, NoReturn

import mcp_types as mcp
from mcp.server import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import BaseModel, ValidationError

from mercato.plugins.catalog import Catalog, ScopeMissing, Unknown, Visible
from mercato.plugins.surface import OWN_NAMES, surface_of
from mercato.prompts.prompt import Messages
from mercato.server.auth.directory import Caller
from mercato.server.changes import Change, ChangeBus
from mercato.server.contexts import ContextFactory
from mercato.server.guard import Guard
from mercato.server.mcp.callers import Callers
from mercato.server.mcp.channels import EnvelopeChannel, HandshakeChannel, channel_of
from mercato.server.mcp.streams import MOST_URIS, ListenStreams, is_readable
from mercato.server.mcp.subscriptions import TenantBus
from mercato.server.mcp.tasks.extension import is_declared, not_declared
from mercato.server.mcp.tasks.store import TaskStore
from mercato.server.mcp.wire import wire_prompt, wire_resource, wire_template, wire_tool
from mercato.tenancy.access import Access
from mercato.tenancy.assistant import Surface
from mercato.tools.call import Call, call_tool
from mercato.tools.completer import Completer
from mercato.tools.context import Conversation, InputRequired
from mercato.tools.errors import ToolError
from mercato.tools.outcome import Outcome
from mercato.tools.replays import KEY
from mercato.tools.schema import Schema

Ctx = ServerRequestContext[Any, Any]
_LEGACY_RESOURCE_NOT_FOUND = -32002
_MOST_COMPLETIONS = 100
_READ_TIMEOUT_S = 30


class Handlers:
    """Answers MCP requests. Who is calling is told by `callers`: the HTTP request has it, a terminal is fixed."""

    def __init__(
        self,
        catalog: Catalog,
        contexts: ContextFactory,
        changes: ChangeBus,
        guard: Guard,
        callers: Callers,
        tasks: TaskStore,
    ) -> None:
        self._catalog = catalog
        self._contexts = contexts
        self._changes = changes
        self._guard = guard
        self.callers = callers
        self.tasks = tasks
        self._tools = {name: wire_tool(tool) for name, tool in catalog.tools.items()}
        self._prompts = {name: wire_prompt(prompt) for name, prompt in catalog.prompts.items()}
        self._streams = ListenStreams(catalog, changes, callers)

    @property
    def tool_names(self) -> Container[str]:
        """The names of all tools, whoever may see them."""
        return self._catalog.tools

    def tool_input_schema(self, name: str) -> Schema | None:
        """Return a tool's input schema at once: without this the SDK lists all tools to make one call."""
        tool = self._catalog.tool(name) or self._catalog.surface_tools.get(name)
        return None if tool is None else tool.input_schema

    async def list_tools(self, ctx: Ctx, params: mcp.PaginatedRequestParams | None) -> mcp.ListToolsResult:
        """List the tools that can be called now, or what the search surface has in their place."""
        visible = await self._visible(ctx, params)
        listed = visible.on(_surface(ctx, visible.access)).listed()
        return mcp.ListToolsResult(tools=[self._tools.get(tool.name) or wire_tool(tool) for tool in listed])

    async def call_tool(self, ctx: Ctx, params: mcp.CallToolRequestParams) -> Any:
        """Call a tool, through the gate."""
        caller = await self.callers.caller(ctx)
        try:
            visible = caller.sees(self._catalog).on(_surface(ctx, caller.access))
            tool, arguments = visible.resolve(params.name, params.arguments or {})
        except ToolError as refusal:
            return Outcome(error=refusal).result()
        except (Unknown, ScopeMissing) as refusal:
            _refuse(refusal)
        if params.name in OWN_NAMES:  # a raw tool that is executed must not see how it was called
            params = params.model_copy(update={"name": tool.name, "arguments": dict(arguments)})
        call = Call(
            tool=tool,
            arguments=arguments,
            principal=caller.principal,
            access=caller.access,
            client=(client := channel_of(ctx, params)),
            key=None if params.meta is None else params.meta.get(KEY),
            state=None if tool.is_raw else client.exchange,
            request_id=request_id_of(ctx),
            raw_context=RawContext(ctx, params, TenantBus(self._changes, caller.access.tenant.id)),
            era="modern" if ctx.protocol_version in MODERN_PROTOCOL_VERSIONS else "legacy",
            **_of_http(ctx),
        )
        self._background(ctx, call, client)
        outcome = await self.run(call)
        await self.tell_changed(call, outcome)
        return outcome.result()

    def _background(self, ctx: Ctx, call: Call, client: HandshakeChannel | EnvelopeChannel) -> None:
        """Make a call a task, where its tool may be one and the client takes it. Raises `MCPError` where it must be."""
        if call.tool.task == "never":
            return
        if is_declared(ctx) and isinstance(client, EnvelopeChannel):
            call.begin = self.tasks.beginning(call, client)
        elif call.tool.task == "required":
            raise not_declared()

    def run(self, call: Call) -> Awaitable[Outcome]:
        """Run a call, whichever way it came. If something was changed, whoever runs it then tells of that."""
        return call_tool(call, self._contexts, self._guard)

    async def tell_changed(self, call: Call, outcome: Outcome) -> None:
        """Tell who is subscribed to what a call changed."""
        for uri in outcome.changed:
            await self._changes.publish(Change("resource", call.access.tenant.id, uri))

    async def list_resources(self, ctx: Ctx, params: mcp.PaginatedRequestParams | None) -> mcp.ListResourcesResult:
        """List the resources that have one URI."""
        visible = await self._visible(ctx, params)
        return mcp.ListResourcesResult(
            resources=[wire_resource(resource) for resource in visible.resources() if not resource.is_template]
        )

    async def list_templates(
        self, ctx: Ctx, params: mcp.PaginatedRequestParams | None
    ) -> mcp.ListResourceTemplatesResult:
        """List the templates."""
        visible = await self._visible(ctx, params)
        return mcp.ListResourceTemplatesResult(
            resource_templates=[wire_template(resource) for resource in visible.resources() if resource.is_template]
        )

    async def read_resource(self, ctx: Ctx, params: mcp.ReadResourceRequestParams) -> Any:
        """Read one resource."""
        caller = await self.callers.caller(ctx)
        try:
            visible = caller.sees(self._catalog)
            resource, variables = visible.resource(params.uri)
            content = await self._run(ctx, params, caller, lambda tool_ctx: resource(tool_ctx, **variables))
        except InputRequired as pause:
            return pause.result
        except LookupError:
            modern = ctx.protocol_version in MODERN_PROTOCOL_VERSIONS
            code = mcp.INVALID_PARAMS if modern else _LEGACY_RESOURCE_NOT_FOUND
            raise MCPError(code, f"There is no resource {params.uri!r}.", {"uri": params.uri}) from None
        except (ToolError, ScopeMissing) as refusal:
            _refuse(refusal)
        return mcp.ReadResourceResult(contents=[_contents(params.uri, resource.mime_type, content)])

    async def subscribe(self, ctx: Ctx, params: mcp.SubscribeRequestParams) -> mcp.EmptyResult:
        """Accept a subscription of the handshake era to what the caller may read; a terminal's session is told."""
        await self._readable(ctx, params.uri)
        return mcp.EmptyResult()

    async def unsubscribe(self, ctx: Ctx, params: mcp.UnsubscribeRequestParams) -> mcp.EmptyResult:
        """End a subscription of the handshake era."""
        return mcp.EmptyResult()

    async def listen(self, ctx: Ctx, params: mcp.SubscriptionsListenRequestParams) -> Any:
        """Serve a stream of changes of the caller's tenant; URIs that the caller may not read are left out."""
        caller = await self.callers.caller(ctx)
        visible = caller.sees(self._catalog)
        wanted = params.notifications.resource_subscriptions or []
        if len(wanted) > MOST_URIS:
            raise MCPError(mcp.INVALID_PARAMS, f"A stream may tell of {MOST_URIS:,} resources.")
        readable = [uri for uri in wanted if is_readable(visible, uri)]
        allowed = params.notifications.model_copy(update={"resource_subscriptions": readable or None})
        return await self._streams.serve(ctx, params.model_copy(update={"notifications": allowed}), caller)

    def close_streams(self) -> None:
        """End every listen stream in the protocol's graceful way."""
        self._streams.close()

    async def list_prompts(self, ctx: Ctx, params: mcp.PaginatedRequestParams | None) -> mcp.ListPromptsResult:
        """List the prompts."""
        visible = await self._visible(ctx, params)
        return mcp.ListPromptsResult(prompts=[self._prompts[prompt.name] for prompt in visible.prompts()])

    async def get_prompt(self, ctx: Ctx, params: mcp.GetPromptRequestParams) -> Any:
        """Return a prompt's messages."""
        caller = await self.callers.caller(ctx)
        try:
            prompt = caller.sees(self._catalog).prompt(params.name)
            arguments = prompt.parse(params.arguments or {})
            messages = await self._run(ctx, params, caller, lambda tool_ctx: prompt(tool_ctx, **arguments))
        except InputRequired as pause:
            return pause.result
        except (ToolError, Unknown, ScopeMissing) as refusal:
            _refuse(refusal)
        return mcp.GetPromptResult(description=prompt.description, messages=_messages(messages))

    async def complete(self, ctx: Ctx, params: mcp.CompleteRequestParams) -> mcp.CompleteResult:
        """Offer values for an argument of a prompt or a variable of a template."""
        caller = await self.callers.caller(ctx)
        try:
            completer = _completer(caller.sees(self._catalog), params)
            typed = params.argument.value
            found = (
                await self._run(ctx, params, caller, lambda tool_ctx: completer(tool_ctx, typed)) if completer else ()
            )
            values = [str(value) for value in found]
        except (ToolError, Unknown, ScopeMissing) as refusal:
            _refuse(refusal)
        shown = values[:_MOST_COMPLETIONS]
        return mcp.CompleteResult(
            completion=mcp.Completion(values=shown, total=len(values), has_more=len(values) > len(shown))
        )

    async def set_logging_level(self, ctx: Ctx, params: mcp.SetLevelRequestParams) -> mcp.EmptyResult:
        """Accept a level; tools of the handshake era send their log messages at every level."""
        return mcp.EmptyResult()

    async def instructions(self, ctx: Ctx) -> str:
        """Return the instructions for this caller."""
        caller = await self.callers.caller(ctx)
        return caller.sees(self._catalog).on(_surface(ctx, caller.access)).instructions()

    async def _visible(self, ctx: Ctx, params: mcp.PaginatedRequestParams | None) -> Visible:
        if params is not None and params.cursor is not None:
            raise MCPError(mcp.INVALID_PARAMS, "This list has one page: ask without a cursor.")
        caller = await self.callers.caller(ctx)
        return caller.sees(self._catalog)

    async def _readable(self, ctx: Ctx, uri: str) -> None:
        caller = await self.callers.caller(ctx)
        if not is_readable(caller.sees(self._catalog), uri):
            raise MCPError(_LEGACY_RESOURCE_NOT_FOUND, f"There is no resource {uri!r}.", {"uri": uri})

    async def _run(self, ctx: Ctx, params: Any, caller: Caller, function: Callable[[Any], Awaitable[Any]]) -> Any:
        """Run a reader, a prompt or a completer in a read-only context."""
        has_answers = hasattr(params, "input_responses")
        conversation = Conversation(channel_of(ctx, params if has_answers else _NoAnswers))
        async with self._contexts.context(
            caller.principal, caller.access, conversation, read_only=True, name=ctx.method
        ) as tool_ctx:
            with self._contexts.clock(_READ_TIMEOUT_S) as conversation.clock:
                try:
                    return await function(tool_ctx)
                except ValidationError as error:  # the plugin's own; that of the request's parameters is the caller's
                    raise RuntimeError(f"{ctx.method} failed") from error
            raise TimeoutError(f"{ctx.method} took over {_READ_TIMEOUT_S} seconds")


class _NoAnswers:
    input_responses = None
    request_state = None


class RawContext:
    """What a raw tool gets: the SDK's request context and parameters, and its tenant's bus."""

    def __init__(self, ctx: Ctx, params: mcp.CallToolRequestParams, bus: TenantBus) -> None:
        self.ctx = ctx
        self.params = params
        self.bus = bus


def _surface(ctx: Ctx, access: Access) -> Surface:
    """Return the surface of a request: the endpoint has put into its state what the URL asks for."""
    asked = None if ctx.request is None else getattr(ctx.request.state, "surface", None)
    client = ctx.session.client_params
    return surface_of(asked, None if client is None else client.client_info.name, access)


def _of_http(ctx: Ctx) -> dict[str, Any]:
    """Return what only an HTTP request knows of a call."""
    if ctx.request is None:
        return {}
    state, is_modern = ctx.request.state, ctx.protocol_version in MODERN_PROTOCOL_VERSIONS
    return {
        "session_id": None if is_modern else ctx.request.headers.get("mcp-session-id"),
        "request_bytes": getattr(state, "request_bytes", 0),
        "within_limits": getattr(state, "within_limits", False),
        "admitted_at": getattr(state, "admitted_at", 0.0),
        "meter": getattr(state, "meter", None),
        "delivery": getattr(state, "delivery", None),
    }


def request_id_of(ctx: Ctx) -> str:
    """Return the id under which the log has this request."""
    if ctx.request is not None and (request_id := getattr(ctx.request.state, "request_id", None)):
        return str(request_id)
    return secrets.token_hex(8)


def _refuse(refusal: Exception) -> NoReturn:
    if isinstance(refusal, ToolError):
        raise MCPError(mcp.INVALID_PARAMS, refusal.text(), refusal.data()) from None
    if isinstance(refusal, ScopeMissing):
        raise MCPError(
            mcp.INVALID_PARAMS, str(refusal), {"code": "insufficient_scope", "scope": refusal.scope}
        ) from None
    raise MCPError(mcp.INVALID_PARAMS, str(refusal)) from None


def _contents(uri: str, mime_type: str, content: Any) -> mcp.TextResourceContents | mcp.BlobResourceContents:
    if isinstance(content, bytes):
        return mcp.BlobResourceContents(uri=uri, mime_type=mime_type, blob=base64.b64encode(content).decode())
    text = content.model_dump_json() if isinstance(content, BaseModel) else str(content)
    return mcp.TextResourceContents(uri=uri, mime_type=mime_type, text=text)


def _messages(messages: Messages) -> list[mcp.PromptMessage]:
    if isinstance(messages, str):
        return [mcp.PromptMessage(role="user", content=mcp.TextContent(text=messages))]
    return list(messages)


def _completer(visible: Visible, params: mcp.CompleteRequestParams) -> Completer | None:
    if isinstance(params.ref, mcp.PromptReference):
        return visible.prompt(params.ref.name).complete.get(params.argument.name)
    for resource in visible.resources():
        if resource.uri == params.ref.uri:
            return resource.complete.get(params.argument.name)
    raise Unknown(f"There is no resource template {params.ref.uri!r}.")
