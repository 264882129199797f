"""MCP messages as lines on two pipes. What is no message is answered here, as over HTTP: nobody waits for ever."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, TypeVar

import anyio
import mcp_types as mcp
import structlog
from mcp.shared.message import SessionMessage
from pydantic import ValidationError

from mercato.server.mcp.messages import Malformed, read_message

log = structlog.stdlib.get_logger(__name__)

Result = TypeVar("Result")
_CHUNK_BYTES = 64 * 1024
_MOST_UNREAD = 64
_HUNG_UP = (anyio.BrokenResourceError, anyio.ClosedResourceError)


class Lines:
    """Cuts what is read into lines. One that is longer than `most` bytes is not kept: it comes as None."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._line = bytearray()
        self._is_too_long = False

    def feed(self, chunk: bytes) -> Iterator[bytes | None]:
        """Take in what was read; yield the lines that are whole now."""
        *ended, rest = chunk.split(b"\n")
        for part in ended:
            self._add(part)
            yield self._take()
        self._add(rest)

    def end(self) -> Iterator[bytes | None]:
        """Yield the last line, if nothing ended it."""
        if self._line or self._is_too_long:
            yield self._take()

    def _add(self, part: bytes) -> None:
        if self._is_too_long or len(self._line) + len(part) > self._most:
            self._is_too_long = True
            self._line.clear()
        else:
            self._line += part

    def _take(self) -> bytes | None:
        line = None if self._is_too_long else bytes(self._line)
        self._is_too_long = False
        self._line.clear()
        return line


@asynccontextmanager
async def open_pipes(source: int, sink: int, *, max_line_bytes: int) -> AsyncIterator[tuple[Any, Any]]:
    """Yield the pair of streams that the SDK serves, over two file descriptors, until the client leaves either."""
    to_server, read = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    write, from_server = anyio.create_memory_object_stream[SessionMessage](0)
    taken = anyio.Condition()
    async with anyio.create_task_group() as group, read, write:
        group.start_soon(_read, source, to_server, write.clone(), max_line_bytes, taken)
        group.start_soon(_write, sink, from_server, group.cancel_scope, taken)
        yield read, write


async def _read(source: int, to_server: Any, answers: Any, max_line_bytes: int, taken: anyio.Condition) -> None:
    lines = Lines(max_line_bytes)
    async with to_server, answers:
        with suppress(OSError, *_HUNG_UP):
            while chunk := await _in_thread(partial(os.read, source, _CHUNK_BYTES)):
                for line in lines.feed(chunk):
                    await _take_in(line, to_server, answers, max_line_bytes)
                    await _until_read(answers, taken)
            for line in lines.end():
                await _take_in(line, to_server, answers, max_line_bytes)


async def _until_read(answers: Any, taken: anyio.Condition) -> None:
    """Read no further while a client does not read its answers: they would only pile up."""
    await asyncio.sleep(0)  # what was taken in begins
    async with taken:
        while answers.statistics().tasks_waiting_send > _MOST_UNREAD:
            await taken.wait()


async def _take_in(line: bytes | None, to_server: Any, answers: Any, max_line_bytes: int) -> None:
    if line is not None and not line.strip():
        return
    try:
        if line is None:
            raise Malformed(mcp.INVALID_REQUEST, f"The message is longer than {max_line_bytes} bytes.")
        message = _message(line)
    except Malformed as broken:
        await answers.send(SessionMessage(_error(broken.code, str(broken), broken.request_id)))
    else:
        if message is not None:
            await to_server.send(SessionMessage(message))


def _message(line: bytes) -> mcp.JSONRPCMessage | None:
    """Return the message in a line; None for an answer without its form, whose sender waits for nothing."""
    try:
        request_id = read_message(line).id
    except Malformed as broken:
        if broken.code != mcp.PARSE_ERROR:
            raise
        raise Malformed(broken.code, "The line is not JSON.", _id_in(line)) from None
    try:
        return mcp.jsonrpc_message_adapter.validate_json(line, by_name=False)
    except ValidationError:
        if request_id is not None:
            raise Malformed(mcp.INVALID_REQUEST, "The message is no request.", request_id) from None
        log.warning("message dropped: it has no known form")
        return None


def _id_in(line: bytes) -> str | int | None:
    """Return the id of what a laxer reader still understands, such as a text with half a character in it."""
    try:
        raw = json.loads(line.decode(errors="replace"))
    except (ValueError, RecursionError):
        return None
    found = raw.get("id") if isinstance(raw, dict) else None
    if isinstance(found, str):
        return found if found.isprintable() else None
    return found if isinstance(found, int) and not isinstance(found, bool) else None


async def _write(sink: int, from_server: Any, scope: anyio.CancelScope, taken: anyio.Condition) -> None:
    async with from_server:
        async for item in from_server:
            if (line := _line(item.message)) is None:
                continue
            try:
                await _in_thread(partial(_write_all, sink, line))
            except OSError:  # nobody reads any more
                scope.cancel()
            async with taken:
                taken.notify_all()


def _line(message: mcp.JSONRPCMessage) -> bytes | None:
    """Return a message as a line; an answer that cannot be one as an error; else None."""
    try:
        return message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n"
    except ValueError as error:
        log.error("message cannot be sent", exc_info=error)
    if not isinstance(message, mcp.JSONRPCResponse):
        return None
    return _line(_error(mcp.INTERNAL_ERROR, "The answer cannot be sent.", message.id))


def _error(code: int, text: str, request_id: str | int | None) -> mcp.JSONRPCError:
    return mcp.JSONRPCError(jsonrpc="2.0", id=request_id, error=mcp.ErrorData(code=code, message=text))


def _write_all(sink: int, line: bytes) -> None:
    rest = memoryview(line)
    while rest:
        rest = rest[os.write(sink, rest) :]


async def _in_thread(function: Callable[[], Result]) -> Result:
    """Run what may block for ever in a thread that the end of the process does not wait for."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Result] = loop.create_future()

    def settle(result: Result | None, error: OSError | None) -> None:
        if done.cancelled():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]  # None only where Result is None

    def work() -> None:
        result, failed = None, None
        try:
            result = function()
        except OSError as error:
            failed = error
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(settle, result, failed)

    threading.Thread(target=work, name="mercato pipe", daemon=True).start()
    return await done
