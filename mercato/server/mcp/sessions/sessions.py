"""Sessions: found in Redis, kept here for a moment, so that a call in a known session asks nobody."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping

import mcp_types as mcp

from mercato.server.auth.directory import Caller
from mercato.server.mcp.sessions import names
from mercato.server.mcp.sessions.background import Background
from mercato.server.mcp.sessions.bounds import Bounds
from mercato.server.mcp.sessions.record import (
    SUBSCRIBED,
    Session,
    Transport,
    fields_of,
    handshake_fields,
    owner_of,
    session_of,
)
from mercato.server.mcp.sessions.store import Store
from mercato.server.script import Argument
from mercato.tenancy.principal import Principal

_US = 1_000_000
_OTHER_FIELDS = 16
"""How many fields a record has at most, beside its subscriptions."""
_PARTS = ("calls", "waits", "replies", "streams")


class TooManySessions(Exception):
    """The tenant has as many sessions as it may have, and all are in use."""


class Sessions:
    """Begins, finds, changes and ends sessions. Raises `Away` where Redis is needed and does not answer."""

    def __init__(self, store: Store, replica: str, background: Background, bounds: Bounds) -> None:
        self._store = store
        self._replica = replica
        self._background = background
        self._bounds = bounds
        self._kept: OrderedDict[str, Session] = OrderedDict()

    def known(self, session_id: str) -> Session | None:
        """Return a session that was read a moment ago: at once, or None. Ask it whose it is."""
        session = self._kept.get(session_id)
        if session is None or session.read_at + self._bounds.cached_s < time.monotonic():
            return None
        return session

    def plain(self, session_id: str, caller: Caller) -> Session | None:
        """Return a session of this caller that is ready for calls and known here; None for any other."""
        session = self.known(session_id)
        if session is None or session.client is None or session.transport != "streamable":
            return None
        if not session.belongs_to(caller.principal):
            return None
        self.touch(session)
        return session

    async def find(self, session_id: str, principal: Principal, transport: Transport) -> Session | None:
        """Return a session of this caller on this transport; None for an unknown one and for anybody else's."""
        session = self.known(session_id)
        if session is None and names.is_session_id(session_id):
            session = await self.read(session_id)
        if session is None or not session.belongs_to(principal) or session.transport != transport:
            return None
        self.touch(session)
        return session

    async def read(self, session_id: str) -> Session | None:
        """Return a session as Redis has it now."""
        async with self._store.answering() as redis:
            kept: Mapping[bytes, bytes] = await redis.hgetall(names.record_key(session_id))  # type: ignore[misc]  # typed for both clients
        if b"tenant" not in kept:
            self.forget(session_id)
            return None
        session = session_of(session_id, kept)
        self._keep(session)
        return session

    async def create(
        self,
        principal: Principal,
        transport: Transport,
        version: str,
        client: mcp.InitializeRequestParams | None,
    ) -> Session:
        """Begin a session. Raises `TooManySessions`."""
        session_id = names.new_session_id()
        await self._enter(session_id, principal.tenant_id)
        session = Session(
            id=session_id,
            tenant_id=principal.tenant_id,
            owner=owner_of(principal),
            version=version,
            transport=transport,
            client=client,
            initialized=False,
            level=None,
            uris=frozenset(),
            touched_at=time.monotonic(),
        )
        fields = [part for pair in fields_of(session).items() for part in pair]
        await self._store.run("create", [names.record_key(session.id)], [self._bounds.idle_s, *fields])
        self._keep(session)
        return session

    def touch(self, session: Session) -> None:
        """Note that a session is used: now and then in Redis too, in the background."""
        if self.is_due(session):
            self._background.start(self.renew(session))

    def is_due(self, session: Session) -> bool:
        """Whether it is time to `renew`; who asks does so."""
        now = time.monotonic()
        due = now - session.touched_at >= self._bounds.touched_every_s
        if due:
            session.touched_at = now
        return due

    async def renew(self, session: Session) -> bool:
        """Put off the end of a session; return whether it is there still."""
        parts = [names.part_key(session.id, part) for part in _PARTS]
        keys = [names.record_key(session.id), names.stream_key(session.id, names.STANDALONE), *parts]
        if not await self._store.run("touch", keys, [self._bounds.idle_s]):
            self.forget(session.id)
            return False
        await self._note_use(session)
        return True

    async def shake_hands(self, session: Session, version: str, client: mcp.InitializeRequestParams | None) -> None:
        """Note a handshake that came after its session had begun."""
        await self._set(session, handshake_fields(version, client))
        session.version, session.client = version, client

    async def note_initialized(self, session: Session) -> None:
        """Note that the client is ready."""
        await self._set(session, {"initialized": "1"})
        session.initialized = True

    async def set_level(self, session: Session, level: str) -> None:
        """Note which log messages the client wants."""
        await self._set(session, {"level": level})
        session.level = level

    async def subscribe(self, session: Session, uri: str) -> bool:
        """Note a subscription; return whether there was room for it."""
        if not await self._set(session, {f"{SUBSCRIBED}{uri}": "1"}):
            return False
        session.uris |= {uri}
        return True

    async def unsubscribe(self, session: Session, uri: str) -> None:
        """Forget a subscription."""
        await self._change(session, ["remove", f"{SUBSCRIBED}{uri}"])
        session.uris -= {uri}

    async def end(self, session_id: str, tenant_id: int) -> None:
        """End a session: every replica hears of it, and ends what it does for it."""
        parts = [names.part_key(session_id, part) for part in ("streams", "ended", "calls", "waits", "replies")]
        keys = [names.record_key(session_id), *parts, names.stream_key(session_id, names.STANDALONE)]
        message = f"ended {self._replica} {session_id}"
        await self._store.run("end", keys, [names.SHARED, message, names.stream_key(session_id, "")])
        self.forget(session_id)
        async with self._store.answering() as redis:
            await redis.zrem(names.tenant_key(tenant_id), session_id)

    def forget(self, session_id: str) -> None:
        """Ask Redis the next time."""
        self._kept.pop(session_id, None)

    def forget_all(self) -> None:
        """Ask Redis the next time, for every session: changes may have been missed."""
        self._kept.clear()

    def _keep(self, session: Session) -> None:
        self._kept[session.id] = session
        self._kept.move_to_end(session.id)
        old = session.read_at - self._bounds.cached_s
        while len(self._kept) > self._bounds.most_cached or next(iter(self._kept.values())).read_at < old:
            self._kept.popitem(last=False)

    async def _set(self, session: Session, fields: Mapping[str, str]) -> bool:
        return await self._change(session, ["set", *(part for pair in fields.items() for part in pair)])

    async def _change(self, session: Session, what: list[str]) -> bool:
        message = f"changed {self._replica} {session.id}"
        most = self._bounds.most_subscriptions + _OTHER_FIELDS
        changed = await self._store.run("change", [names.record_key(session.id)], [names.SHARED, message, most, *what])
        if changed == 0:
            self.forget(session.id)
        return bool(changed == 1)

    async def _note_use(self, session: Session) -> None:
        key, day_s = names.tenant_key(session.tenant_id), 24 * 60 * 60
        async with self._store.answering() as redis, redis.pipeline(transaction=False) as pipe:
            pipe.zadd(key, {session.id: int(time.time() * _US)})
            pipe.expire(key, max(day_s, self._bounds.idle_s))
            await pipe.execute()

    async def _enter(self, session_id: str, tenant_id: int) -> None:
        """Take a place among the sessions of a tenant, if need be that of the idlest. Raises `TooManySessions`."""
        key, now, day_s = names.tenant_key(tenant_id), time.time(), 24 * 60 * 60
        given: list[Argument] = [
            session_id,
            int(now * _US),
            self._bounds.most_sessions,
            max(day_s, self._bounds.idle_s),
        ]
        if await self._store.run("enter", [key], given):
            return
        async with self._store.answering() as redis:
            await redis.zremrangebyscore(key, "-inf", int((now - self._bounds.idle_s) * _US))
            idlest: list[tuple[bytes, float]] = await redis.zrange(key, 0, 0, withscores=True)
        if idlest and idlest[0][1] / _US <= now - self._bounds.idlest_s:
            await self.end(idlest[0][0].decode(), tenant_id)
        if not await self._store.run("enter", [key], given):
            raise TooManySessions
