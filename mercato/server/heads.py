"""Heads: what the parser made of the head of a request, for the next one whose head has the same bytes.

A client sends the same head with each request of a kind, but for the length of the body. To parse it is most of what
HTTP costs, and gives the same each time.
"""

from __future__ import annotations

from typing import Any

from starlette.types import Scope

KNOWN_HEAD = "mercato.head"
"""The key of an HTTP scope under which a request has its `KnownHead`, if it has one."""
MOST_KEPT, LONGEST_BYTES = 1_000, 2_048
_END, _NAME, _LENGTH = b"\r\n\r\n", b"ength: ", b"\r\ncontent-length: "
_END_BYTES, _NAME_BYTES = len(_END), len(_NAME)
_LONGEST_LENGTH = 9
_TELLING = frozenset({b"transfer-encoding", b"expect", b"upgrade"})
"""Headers that say how the request goes on."""


class KnownHead:
    """A head that was parsed, but for the length of the body. `memo` is for whoever works out something of it.

    An application that never answers requests of this head at once may set `needs_task`, and is not asked again.
    """

    __slots__ = ("_after", "_before", "memo", "needs_task", "target")

    def __init__(self, scope: Scope, place: int) -> None:
        headers = scope["headers"]
        self._before, self._after = tuple(headers[:place]), tuple(headers[place + 1 :])
        self.target = {name: scope[name] for name in ("method", "path", "raw_path", "query_string")}
        self.memo: dict[str, Any] = {}
        self.needs_task = False

    def headers(self, length: bytes) -> list[tuple[bytes, bytes]]:
        """Return the headers of a request whose body is so long."""
        return [*self._before, (b"content-length", length), *self._after]


class Heads:
    """The heads that are known to a server, by their bytes. Bounded; which are kept decides about speed alone."""

    def __init__(self) -> None:
        self._kept: dict[tuple[bytes, bytes], KnownHead] = {}

    def find(self, data: bytes) -> tuple[KnownHead, bytes, bytes] | None:
        """Return head, length and body of a request, if these bytes are a whole one and nothing else, and it is known.

        Whoever asks must know that a request begins with these bytes.
        """
        parts = _parts_of(data)
        if parts is None:
            return None
        before, length, after, body = parts
        head = self._kept.get((before, after))
        return None if head is None else (head, length, body)

    def learn(self, data: bytes, scope: Scope, body: bytes | bytearray) -> None:
        """Keep the head of a request if it is a plain one: the parser has made `scope` and `body` of these bytes."""
        parts = _parts_of(data)
        if parts is None or parts[3] != body or not data.startswith(b"POST ") or scope["http_version"] != "1.1":
            return
        before, length, after, _ = parts
        names = [name for name, _ in scope["headers"]]
        if names.count(b"content-length") != 1 or not _TELLING.isdisjoint(names):
            return
        place = names.index(b"content-length")
        if scope["headers"][place][1] != length or not before.lower().endswith(_LENGTH):
            return
        if len(self._kept) >= MOST_KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[before, after] = KnownHead(scope, place)


def _parts_of(data: bytes) -> tuple[bytes, bytes, bytes, bytes] | None:
    """Return what is before the length of the body, the length, the rest of the head, and the body, if that is all."""
    end = data.find(_END, 0, LONGEST_BYTES)
    if end < 0:
        return None
    end += _END_BYTES
    begins = data.find(_NAME, 0, end) + _NAME_BYTES
    if begins < _NAME_BYTES:
        return None
    ends = data.find(b"\r\n", begins)
    length, body = data[begins:ends], data[end:]
    if not length.isdigit() or ends - begins > _LONGEST_LENGTH or int(length) != len(body):
        return None
    return data[:begins], length, data[ends:end], body
