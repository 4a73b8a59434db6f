"""Connections through a test's own hands: carried to a port, looked at on the way back, cut; and free ports."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress


def free_port() -> int:
    """On loopback, at this moment."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class Wire:
    """Carries connections to a port of loopback, until `close`."""

    piece_bytes = 1 << 16

    def __init__(self, port: int) -> None:
        self._port = port
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def back(self, data: bytes) -> bytes:
        """What becomes of data from the server; may wait. Called from several threads."""
        return data

    def cut(self) -> None:
        """Ends all connections that there are; others may be made."""
        with self._lock:
            cut, self._sockets = self._sockets, []
        for one in cut:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def close(self) -> None:
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self.cut()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._server.accept()
                far = socket.create_connection(("127.0.0.1", self._port))
                with self._lock:
                    self._sockets += [near, far]
                for pair in ((near, far, False), (far, near, True)):
                    threading.Thread(target=self._carry, args=pair, daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket, is_back: bool) -> None:
        with suppress(OSError):
            while data := source.recv(self.piece_bytes):
                target.sendall(self.back(data) if is_back else data)
            target.shutdown(socket.SHUT_WR)
