"""JSON-RPC over a WebSocket: carries out what `channels.py` decides, each call in a task of its own."""

from __future__ import annotations

import trio
from starlette.types import Receive, Scope, Send

from agent.dagstore.failures import ErrorClass
from agent.rpc import jsonrpc
from agent.rpc.channels import Action, Begin, Conversation, Say, Stop
from agent.rpc.http import Connection
from agent.rpc.jsonrpc import Call, ErrorObject, Json
from agent.rpc.outbox import Outbox
from agent.rpc.peers import Caller
from agent.rpc.registry import Stream, answer, cancelled, encoded, error_of
from agent.rpc.services import Services

_GOING_AWAY = 1001  # RFC 6455
LAST_WORDS_S = 0.5  # for answers when the agent stops


class WebSocketRpc:
    """The ASGI endpoint; all that a connection began ends with it."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection: Connection = scope["state"]["connection"]
        session = _Session(self._services, scope["state"]["caller"], connection)
        try:
            await receive()  # websocket.connect
            # go-jsonrpc's servers agree to whatever subprotocol they are offered, and browsers insist on an answer.
            offered = scope["subprotocols"]
            connection.unread = 0
            await send({"type": "websocket.accept", "subprotocol": offered[0] if offered else None})
            await session.run(receive, send)
        finally:
            connection.end()


class _Session:
    """One connection."""

    def __init__(self, services: Services, caller: Caller, connection: Connection) -> None:
        self._services = services
        self._caller = caller
        self._connection = connection
        self._conversation = Conversation()
        self._outbox = Outbox(connection.abort)
        self._scopes: dict[int, trio.CancelScope] = {}  # of the calls that have not ended
        self._ended = trio.Event()  # one of them has

    async def run(self, receive: Receive, send: Send) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send, send)
            nursery.start_soon(self._close_on_stop, send, nursery.cancel_scope)
            while True:
                message = await receive()
                if message["type"] == "websocket.disconnect":
                    break
                self._connection.unread = 0
                text = message.get("text")
                for action in self._conversation.receive(message["bytes"] if text is None else text):
                    self._carry_out(action, nursery)
            nursery.cancel_scope.cancel()

    async def _send(self, send: Send) -> None:
        while True:
            frame = await self._outbox.take()
            await send({"type": "websocket.send", "text": frame.decode()})
            self._outbox.taken()

    async def _close_on_stop(self, send: Send, scope: trio.CancelScope) -> None:
        """Answers what can be answered, ends streams, and tells the client, rather than to break off."""
        await self._services.stop.wait()
        with trio.move_on_after(LAST_WORDS_S):
            for number, running in self._scopes.items():
                if self._conversation.is_open(number):
                    running.cancel()
            while self._scopes:
                await self._ended.wait()
            await self._outbox.wait_empty()
        await send({"type": "websocket.close", "code": _GOING_AWAY, "reason": "the agent is stopping"})
        scope.cancel()

    def _carry_out(self, action: Action, nursery: trio.Nursery) -> None:
        match action:
            case Say(frame):
                self._outbox.put(frame)
            case Begin(number, call, in_batch):
                self._scopes[number] = trio.CancelScope()
                nursery.start_soon(self._run, number, call, in_batch)
            case Stop(number):
                self._scopes[number].cancel()

    async def _run(self, number: int, call: Call, in_batch: bool) -> None:
        """Makes one call, and reports its end however it comes."""
        outcome: Json | ErrorObject = cancelled(call.method)
        broken: ErrorObject | None = None
        with self._scopes[number]:
            found = await answer(self._services, self._caller, call)
            if not isinstance(found, Stream):
                outcome = encoded(call.method, found)
            elif in_batch:
                outcome = _not_in_a_batch(call.method)
            elif not call.is_notification:
                broken = await self._pump(number, found)
        if self._conversation.is_open(number):
            self._outbox.put(self._conversation.closed(number, broken))
        elif (frame := self._conversation.answered(number, outcome)) is not None:
            self._outbox.put(frame)
        del self._scopes[number]
        self._ended.set()
        self._ended = trio.Event()

    async def _pump(self, number: int, stream: Stream) -> ErrorObject | None:
        """Sends the values of a stream; gives what has broken it off, if that was not a cancel."""
        self._outbox.put(self._conversation.opened(number))
        try:
            async with stream.values as values:
                async for value in values:
                    await self._outbox.wait_room()
                    self._outbox.put(self._conversation.value(number, value))
        except Exception as error:
            return error_of(stream.method, error)
        return None


def _not_in_a_batch(method: str) -> ErrorObject:
    message = f"{method} gives a stream, which cannot be part of a batch"
    return ErrorObject(jsonrpc.INVALID_REQUEST, message, {"class": ErrorClass.INVALID})
