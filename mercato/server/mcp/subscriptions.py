"""Subscriptions: the change bus as the SDK's listen streams see it, one tenant at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from mcp.server.subscriptions import (
    PromptsListChanged,
    ResourcesListChanged,
    ResourceUpdated,
    ServerEvent,
    ToolsListChanged,
)

from mercato.server.changes import Change, ChangeBus


class TenantBus:
    """A `SubscriptionBus` that delivers the changes of one tenant only, and of its resources those that may be read."""

    def __init__(self, changes: ChangeBus, tenant_id: int, readable: Callable[[str], bool] = lambda uri: True) -> None:
        self._changes = changes
        self._tenant_id = tenant_id
        self.readable = readable

    async def publish(self, event: ServerEvent) -> None:
        """Tell the tenant's listeners on every replica."""
        if isinstance(event, ResourceUpdated):
            await self._changes.publish(Change("resource", self._tenant_id, event.uri))
        else:
            await self._changes.publish(Change("catalog", self._tenant_id))

    def subscribe(self, listener: Callable[[ServerEvent], None]) -> Callable[[], None]:
        """Deliver to `listener` what concerns the tenant."""

        def deliver(change: Change) -> None:
            if change.tenant_id in {0, self._tenant_id}:
                for event in events_of(change):
                    if not isinstance(event, ResourceUpdated) or self.readable(event.uri):
                        listener(event)

        return self._changes.subscribe(deliver)


def events_of(change: Change) -> Iterator[ServerEvent]:
    """Yield what a change means to a client."""
    if change.kind == "resource" and change.uri is not None:
        yield ResourceUpdated(uri=change.uri)
    elif change.kind == "task":
        return  # its listeners are told of the task itself
    elif change.tenant_id != 0 or change.kind == "catalog":  # `access` of all is what the bus says after a gap
        yield from (ToolsListChanged(), PromptsListChanged(), ResourcesListChanged())
