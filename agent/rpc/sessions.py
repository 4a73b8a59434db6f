"""`GET /events`: a session with all that there is, and what changes about it; its leases end with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import trio
from starlette.types import Receive, Scope, Send

from agent.dagstore.events import Hub, ImportKey, Key, RetrievalKey
from agent.dagstore.failures import ShardError
from agent.rpc.http import Connection
from agent.rpc.lines import begin, cancel_on_disconnect, joined, line, send_lines
from agent.rpc.services import Services

PING_INTERVAL_S = 10.0


class Events:
    """A session: a snapshot of all that there is, then what changes; its leases end with it."""

    def __init__(self, services: Services, hub: Hub) -> None:
        self._services = services
        self._hub = hub

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection: Connection = scope["state"]["connection"]
        services = self._services.for_caller(scope["state"]["caller"])
        session = self._services.leases.open(connection.name)
        subscription = self._hub.subscribe_all(connection.abort)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(cancel_on_disconnect, receive, nursery.cancel_scope)
                await begin(send)
                await send_lines(send, line({"event": "session", "session": session}))
                for lines in joined(_snapshot(services)):
                    await send_lines(send, lines)
                await send_lines(send, line({"event": "ready"}))
                while True:
                    changed = None
                    with trio.move_on_after(PING_INTERVAL_S):
                        changed = await subscription.wait_changed()
                    if changed == []:
                        break
                    news = (
                        [line({"event": "ping"})]
                        if changed is None
                        else (_line(services, key) for key in changed)
                    )
                    for lines in joined(news):
                        await send_lines(send, lines)
                await send_lines(send, line({"event": "stopping"}), last=True)
                nursery.cancel_scope.cancel()
        finally:
            self._hub.unsubscribe(subscription)
            self._services.leases.close(session)


def _snapshot(services: Services) -> Iterator[bytes]:
    """A line for each shard, each import and each retrieval."""
    for key in services.dagstore.list_keys():
        with suppress(ShardError):  # destroyed since we began
            yield line({"event": "shard", "shard": services.record(key)})
    if services.importing is not None:
        imports = services.importing.imports
        for number in imports.numbers():
            with suppress(ShardError):
                yield line({"event": "import", "record": imports.record(number)})
    if services.retrievals is not None:
        for number in services.retrievals.numbers():
            yield line({"event": "retrieval", "record": services.retrievals.record(number)})


def _line(services: Services, key: Key) -> bytes:
    match key:
        case ImportKey():
            return _import_line(services, key)
        case RetrievalKey():
            return _retrieval_line(services, key)
        case _:
            return _shard_line(services, key)


def _import_line(services: Services, key: ImportKey) -> bytes:
    try:
        if services.importing is not None:
            record = services.importing.imports.record(key.number)
            return line({"event": "import", "record": record})
    except ShardError:
        pass
    return line({"event": "import-removed", "id": key.number, "name": key.name})


def _retrieval_line(services: Services, key: RetrievalKey) -> bytes:
    try:
        if services.retrievals is not None:
            return line({"event": "retrieval", "record": services.retrievals.record(key.number)})
    except ShardError:
        pass
    return line({"event": "retrieval-removed", "id": key.number})


def _shard_line(services: Services, key: str) -> bytes:
    try:
        return line({"event": "shard", "shard": services.record(key)})
    except ShardError:
        return line({"event": "shard-removed", "key": key})
