"""A blocking client of the agent, over its Unix socket, with nothing but the standard library.

For the command line and for `fusefs`: it imports in a few milliseconds. A `Client` may be used by many threads; each
call has a connection of its own.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from agent.repository import NoHome, Repository

CALL_TIMEOUT_S = 30.0
EVENT_TIMEOUT_S = 25.0  # the agent sends a ping every 10 s
STREAM_TIMEOUT_S = 25.0  # likewise an empty line
MAX_LINE_BYTES = 64 * 1024 * 1024
DOWNLOADED_AT_ONCE = 1 << 20
NDJSON = "application/x-ndjson"

Json = Any  # any value that JSON can carry


class AgentUnreachable(Exception):
    """Nothing answers on the socket, or what answered broke off."""


class AgentError(Exception):
    """The agent answered with an error; `error_class` is the `class` in its data, `key` the shard it is about."""

    def __init__(self, code: int, message: str, data: Mapping[str, Json]) -> None:
        super().__init__(message)
        self.code = code
        self.error_class = str(data.get("class", "bug"))
        self.key: str | None = data.get("key")


class Client:
    """The agent of one `$CARFS_PATH`."""

    def __init__(self, socket_path: Path | None = None, *, timeout_s: float | None = CALL_TIMEOUT_S) -> None:
        """`timeout_s` is for each wait for the agent; None: as long as it takes (for calls that index).

        Raises AgentUnreachable if nothing says where the agent would be.
        """
        try:
            self.path = socket_path if socket_path is not None else Repository.from_environment().socket
        except NoHome as error:
            raise AgentUnreachable(str(error)) from error
        self._timeout_s = timeout_s

    def call(self, method: str, params: Json = None, *, timeout_s: float | None = None) -> Json:
        """The result of one call; `params` is an object or an array. `timeout_s` overrides the client's, if given.

        Raises AgentUnreachable, AgentError.
        """
        request = {
            "jsonrpc": "2.0",
            "id": 1,
            "method": method,
            "params": params if params is not None else [],
        }
        connection = _Connection(self.path, self._timeout_s if timeout_s is None else timeout_s)
        try:
            headers = {"Content-Type": "application/json", "Connection": "close"}
            with suppress(BrokenPipeError):  # who hangs up on a request may have said why
                connection.request("POST", "/rpc/v0", json.dumps(request), headers)
            response = connection.getresponse()
            body = response.read()
            if response.status == 200:
                return _result(json.loads(body))
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _unreachable(self.path, error) from error
        finally:
            connection.close()
        raise AgentUnreachable(f"{self.path}: HTTP {response.status}: {body[:200].decode(errors='replace')}")

    def stream(self, method: str, params: Json = None) -> Iterator[Json]:
        """The values of a method that gives a stream, as they come; closing the iterator calls the method off.

        Raises AgentError (also in the middle), AgentUnreachable.
        """
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params or []})
        connection = _Connection(self.path, STREAM_TIMEOUT_S)
        try:
            headers = {"Content-Type": "application/json", "Accept": NDJSON, "Connection": "close"}
            with suppress(BrokenPipeError):  # as in `call`
                connection.request("POST", "/rpc/v0", body, headers)
            response = connection.getresponse()
            if response.headers.get_content_type() != NDJSON:
                text = response.read()
                if response.status != 200:
                    raise http.client.HTTPException(
                        f"HTTP {response.status}: {text[:200].decode(errors='replace')}"
                    )
                _result(json.loads(text))
                raise AgentError(-32600, f"{method} gives no stream", {"class": "invalid"})
            for line in _lines(response):
                value = json.loads(line)
                if isinstance(value, dict) and value.keys() == {"error"}:
                    _result(value)
                yield value
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _unreachable(self.path, error) from error
        finally:
            connection.close()

    def upload(self, target: str, pieces: Iterable[bytes]) -> Json:
        """The answer to a PUT of `pieces`; what these raise goes through, and the agent is hung up on.

        Raises AgentError, AgentUnreachable.
        """
        connection = _Connection(self.path, self._timeout_s)
        try:
            connection.connect()
        except OSError as error:
            raise _unreachable(self.path, error) from error
        try:
            with suppress(BrokenPipeError, ConnectionResetError):  # who hangs up may have said why
                connection.request("PUT", target, iter(pieces), {"Connection": "close"})
            response = connection.getresponse()
            return _rest_answer(response, response.read())
        except (http.client.HTTPException, ConnectionError, TimeoutError, ValueError) as error:
            raise _unreachable(self.path, error) from error
        finally:
            connection.close()

    def download(self, target: str) -> Iterator[bytes]:
        """The body of a GET, piece by piece; closing the iterator calls it off.

        Raises AgentError, and AgentUnreachable also where the body ends before its end.
        """
        connection = _Connection(self.path, self._timeout_s)
        try:
            connection.request("GET", target, headers={"Connection": "close"})
            response = connection.getresponse()
            if response.status != 200:
                _rest_answer(response, response.read())
            while piece := response.read(DOWNLOADED_AT_ONCE):
                yield piece
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _unreachable(self.path, error) from error
        finally:
            connection.close()

    def events(self, *, timeout_s: float = EVENT_TIMEOUT_S) -> EventStream:
        """Opens a session; its leases live as long as the stream. Raises AgentUnreachable."""
        return EventStream(self.path, timeout_s)


class EventStream:
    """The agent's events, each a dict; close it (or leave its `with` block) to end the session.

    Iterating ends when the agent stops in good order or the stream was closed, which another thread may do. It raises
    AgentUnreachable when the agent is gone, has sent not so much as a ping for the timeout, or has cut us because we
    were too slow.
    """

    def __init__(self, path: Path, timeout_s: float) -> None:
        self._path = path
        self._closed = False
        self._connection = _Connection(path, timeout_s)
        try:
            self._connection.request("GET", "/events")
            self._socket = self._connection.sock
            self._response = self._connection.getresponse()
            if self._response.status != 200:
                raise http.client.HTTPException(f"HTTP {self._response.status}")
            self.session: str = self._event(self._response.readline(MAX_LINE_BYTES))["session"]
        except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
            self._connection.close()
            raise _unreachable(path, error) from error

    def __iter__(self) -> Iterator[dict[str, Json]]:
        """All events after the first, pings left out."""
        while True:
            try:
                line = self._response.readline(MAX_LINE_BYTES)
                # An end that was not announced looks like any other to http.client.
                event = self._event(line) if line else {"event": "lost"}
            except (OSError, http.client.HTTPException, ValueError) as error:
                if self._closed:
                    return
                raise _unreachable(self._path, error) from error
            kind = event.get("event")
            if self._closed or kind == "stopping":
                return
            if kind == "lost":
                raise AgentUnreachable(f"the agent on {self._path} is gone or has cut the stream")
            if kind != "ping":
                yield event

    def close(self) -> None:
        """Ends the session; harmless if repeated."""
        self._closed = True
        try:
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes a thread that reads, which close does not
        except OSError:
            pass
        self._socket.close()

    def __enter__(self) -> EventStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @staticmethod
    def _event(line: bytes) -> dict[str, Json]:
        event = json.loads(line)
        if not isinstance(event, dict):
            raise ValueError(f"not an event: {line[:100]!r}")
        return event


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, timeout_s: float | None) -> None:
        super().__init__("agent", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        # If config has moved the socket, a link leads there, and only the end of it need be short enough.
        self.sock.connect(os.fsencode(os.path.realpath(self._path)))


def _lines(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """The lines of a chunked response, without empty ones; raises HTTPException if it ends before its end, which
    `http.client` would not tell."""
    rest = b""
    while True:
        head = response.fp.readline(MAX_LINE_BYTES)
        if not head:
            raise http.client.HTTPException("the stream ended before its end")
        size = int(head.partition(b";")[0], 16)
        if not size:
            return
        chunk = response.fp.read(size + 2)
        if len(chunk) < size + 2:
            raise http.client.IncompleteRead(chunk)
        *lines, rest = (rest + chunk[:-2]).split(b"\n")
        yield from filter(None, lines)


def _rest_answer(response: http.client.HTTPResponse, body: bytes) -> Json:
    """What was answered outside of JSON-RPC; raises AgentError, ValueError."""
    answer = json.loads(body)
    match answer:
        case {"Error": str(message)}:
            error_class = "denied" if response.status == 401 else "bug"
            raise AgentError(answer.get("Code", -1), message, {"class": answer.get("Class", error_class)})
        case dict() if response.status == 200:
            return answer
    raise ValueError(f"HTTP {response.status}: {body[:200].decode(errors='replace')}")


def _result(reply: Json) -> Json:
    """What a response gives; raises AgentError if that is an error, ValueError if it is no response."""
    match reply:
        case {"error": {"code": int(code), "message": str(message), "data": dict(data)}}:
            raise AgentError(code, message, data)
        case {"error": {"code": int(code), "message": str(message)}}:
            raise AgentError(code, message, {})
        case {"result": result}:
            return result
    raise ValueError("not a JSON-RPC response")


def _unreachable(path: Path, error: Exception) -> AgentUnreachable:
    if isinstance(error, FileNotFoundError | ConnectionRefusedError):
        return AgentUnreachable(f"no agent listens on {path}; start one with `carfs agent`")
    if isinstance(error, TimeoutError):
        return AgentUnreachable(f"the agent on {path} did not answer in time")
    what = (
        error.strerror
        if isinstance(error, OSError) and error.strerror
        else str(error) or type(error).__name__
    )
    return AgentUnreachable(f"the agent on {path} broke off: {what}")
