"""Outcome: what became of a call, as the SDK's type and as the bytes of the wire."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import mcp_types as mcp
import orjson
from pydantic import TypeAdapter
from pydantic_core import to_json

from mercato.tools.errors import ToolError

OK = "ok"
INPUT_REQUIRED = "input_required"
TASK = "task"
REPLAYED = "replayed"
_AGAIN = timedelta(minutes=10)
_BLOCKS: TypeAdapter[list[mcp.ContentBlock]] = TypeAdapter(list[mcp.ContentBlock])
_SEVERAL = b'],"structuredContent":'


@dataclass(slots=True)
class Outcome:
    """What became of a call. `structured` is JSON; without `content` it is also what the model reads as a text.

    `raw` is the result of a tool that speaks the protocol itself, or the question of a call that waits for its client.
    `task` is what a client is told of a call that was stored as a task. `changed` are the resources that were changed.
    `first_at` marks the first answer of a write that was repeated.
    """

    structured: bytes | None = None
    content: Sequence[mcp.ContentBlock] | None = None
    meta: Mapping[str, Any] | None = None
    error: ToolError | None = None
    raw: mcp.CallToolResult | mcp.InputRequiredResult | None = None
    task: Mapping[str, Any] | None = None
    changed: Sequence[str] = ()
    first_at: datetime | None = None

    @classmethod
    def replayed(cls, kept: bytes, first_at: datetime) -> Self:
        """Return the answer that was kept, as it is given to whoever makes the call again."""
        held = orjson.loads(kept)
        structured = None if held["structured"] is None else held["structured"].encode()
        content = None if held["content"] is None else _BLOCKS.validate_python(held["content"])
        changed = tuple(held["changed"])
        return cls(structured, content, held["meta"], task=held.get("task"), changed=changed, first_at=first_at)

    def kept(self) -> bytes:
        """Return all that `replayed` needs, as JSON."""
        structured = None if self.structured is None else self.structured.decode()
        content = None if self.content is None else [_dumped(block) for block in self.content]
        meta = None if self.meta is None else dict(self.meta)
        kept = {"structured": structured, "content": content, "meta": meta, "changed": list(self.changed)}
        return to_json(kept if self.task is None else {**kept, "task": self.task})

    @property
    def code(self) -> str:
        """How it ended, in one word: `ok`, `replayed`, the code of a `ToolError`, `input_required`, or `task`."""
        if self.first_at is not None:
            return REPLAYED
        if self.error is not None:
            return self.error.code
        if self.task is not None:
            return TASK
        if self.raw is None:
            return OK
        if isinstance(self.raw, mcp.InputRequiredResult):
            return INPUT_REQUIRED
        return "error" if self.raw.is_error else OK

    @property
    def size(self) -> int:
        """How many bytes the model gets to read."""
        if self.error is not None:
            return len(self.error.text())
        if self.structured is not None:
            return len(self.structured)
        return 0 if self.raw is None else len(self.raw.model_dump_json(by_alias=True, exclude_none=True))

    def result(self) -> mcp.CallToolResult | mcp.InputRequiredResult | dict[str, Any]:
        """Return it for the SDK, which knows no type for a task."""
        if self.raw is not None:
            return self.raw
        if self.task is not None:
            return {**self.task, **({"_meta": self._meta} if self._meta else {})}
        if self.error is not None:
            content: list[mcp.ContentBlock] = [mcp.TextContent(text=self.error.text())]
            return mcp.CallToolResult(content=content, is_error=True, _meta=self._meta)
        structured = None if self.structured is None else orjson.loads(self.structured)
        return mcp.CallToolResult(content=self._content(), structured_content=structured, _meta=self._meta)

    def wire(self) -> bytes:
        """Return the members of the result as JSON, without braces and `_meta`.

        Raises `ValueError` for a raw result and for a question, which only the SDK can write.
        """
        if self.error is not None:
            return b'"content":[{"type":"text","text":' + orjson.dumps(self.error.text()) + b'}],"isError":true'
        if self.structured is None:
            raise ValueError("this result is the SDK's to write")
        if self.content is None and self.first_at is None:
            text = orjson.dumps(self.structured.decode())
            return b'"content":[{"type":"text","text":' + text + b'}],"structuredContent":' + self.structured + _FINE
        blocks = b",".join(orjson.dumps(_dumped(block)) for block in self._content())
        return b'"content":[' + blocks + _SEVERAL + self.structured + _FINE

    @property
    def _meta(self) -> dict[str, Any] | None:
        return dict(self.wire_meta) if self.wire_meta else None

    @property
    def wire_meta(self) -> Mapping[str, Any] | None:
        """The `_meta` of the result, where it has one."""
        if self.first_at is not None:
            return {**(self.meta or {}), "mercato/replayed": {"first_at": self.first_at.astimezone(UTC).isoformat()}}
        return {"mercato/error": self.error.data()} if self.error is not None else self.meta

    def _content(self) -> list[mcp.ContentBlock]:
        content = [] if self.content is None else list(self.content)
        if self.content is None and self.structured is not None:
            content.append(mcp.TextContent(text=self.structured.decode()))
        if self.first_at is not None:
            content.append(mcp.TextContent(text=_words(self.first_at)))
        return content


_FINE = b',"isError":false'


def _dumped(block: mcp.ContentBlock) -> dict[str, Any]:
    dumped: dict[str, Any] = block.model_dump(by_alias=True, mode="json", exclude_none=True)
    return dumped


def _words(first_at: datetime) -> str:
    """Say to the model what it reads there."""
    return (
        f"Nothing was done this time: this call was made before, at {first_at.astimezone(UTC):%H:%M:%S} UTC, and this "
        "is its first answer, which may not have arrived. Take it as the result. To have it done once more, call with "
        f'a new key in `_meta["mercato/idempotency-key"]`, or after {(first_at + _AGAIN).astimezone(UTC):%H:%M:%S} UTC.'
    )
