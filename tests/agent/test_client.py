"""The client: quick to import, and clear about what went wrong."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.client import AgentError, AgentUnreachable, Client
from tests.fixtures import REPOSITORY

HEAVY = {
    "trio",
    "anyio",
    "anycorn",
    "starlette",
    "numpy",
    "multiformats",
    "msgspec",
    "click",
    "rich",
    "asyncio",
    "carlib",
}


@contextmanager
def answering(path: Path, answer: bytes) -> Iterator[Client]:
    """A client of a server that reads a little and says `answer`, whatever it is asked."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield Client(path, timeout_s=5)
        thread.join()


def response(body: bytes, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def test_importing_the_client_imports_nothing_heavy() -> None:
    code = "import sys, agent.client; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert HEAVY & set(shown.stdout.split()) == set()


def test_no_agent_is_told_with_what_to_do(tmp_path: Path) -> None:
    client = Client(tmp_path / "agent.sock")
    for use in (lambda: client.call("Carfs.Status"), client.events):
        with pytest.raises(
            AgentUnreachable, match=r"no agent listens on .*agent.sock; start one with `carfs agent`"
        ):
            use()


def test_the_socket_of_the_environment_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARFS_PATH", str(tmp_path))
    assert Client().path == tmp_path / "agent.sock"


def test_a_result_is_given_and_an_error_raised_with_its_class(tmp_path: Path) -> None:
    with answering(tmp_path / "1", response(b'{"result": [1]}')) as client:
        assert client.call("f") == [1]
    error = b'{"error": {"code": -32005, "message": "gone", "data": {"class": "gone", "key": "x"}}}'
    with (
        answering(tmp_path / "2", response(error)) as client,
        pytest.raises(AgentError, match="gone") as raised,
    ):
        client.call("f")
    assert (raised.value.code, raised.value.error_class, raised.value.key) == (-32005, "gone", "x")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"", "broke off: Remote end closed"),
        (b"nonsense\r\n\r\n", "broke off"),
        (response(b"not JSON"), "broke off"),
        (response(b"[]"), "broke off: not a JSON-RPC response"),
        (response(b"{}"), "broke off: not a JSON-RPC response"),
        (response(b'{"error": 5}'), "broke off: not a JSON-RPC response"),
        (response(b"too big", "413 Content Too Large"), "HTTP 413: too big"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", "broke off"),
    ],
)
def test_an_answer_that_is_none_means_no_agent(tmp_path: Path, answer: bytes, message: str) -> None:
    with answering(tmp_path / "s", answer) as client, pytest.raises(AgentUnreachable, match=message):
        client.call("f")


def test_a_stream_that_breaks_off_says_so(tmp_path: Path) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n1\n\r\n"
    with answering(tmp_path / "s", answer) as client:
        values = client.stream("f")
        assert next(values) == 1
        with pytest.raises(AgentUnreachable, match="broke off: the stream ended before its end"):
            next(values)


def test_an_agent_that_says_nothing_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        client = Client(tmp_path / "s", timeout_s=0.05)
        for use in (lambda: client.call("f"), lambda: client.events(timeout_s=0.05)):
            with pytest.raises(AgentUnreachable, match="did not answer in time"):
                use()
