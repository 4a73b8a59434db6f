"""Where the agent is that a remote worker joins: what stands behind `--connect`, and the token for it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

TOKEN_VARIABLE = "CARFS_TOKEN"
_HOST_AND_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")
_MAX_TOKEN_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class Where:
    """A Unix socket, or the URL of a host and port."""

    socket: Path | None
    url: str = "http://agent"  # without a path

    @classmethod
    def parse(cls, text: str) -> Where:
        """From a path, `unix:PATH`, `HOST:PORT`, `tcp:HOST:PORT`, `http://HOST:PORT` or `https://HOST[:PORT]`; raises
        ValueError that says what is wrong. A path may be `$CARFS_PATH` of the agent."""
        if text.startswith("unix:"):
            return cls._of_socket(text.removeprefix("unix:").removeprefix("//"))
        scheme, mark, rest = text.partition("://")
        if not mark and text.startswith("tcp:"):
            scheme, mark, rest = "tcp", ":", text.removeprefix("tcp:")
        if mark:
            rest = rest.rstrip("/")
            host = f"{rest}:443" if scheme == "https" and ":" not in rest.rpartition("]")[2] else rest
            if scheme in ("http", "https", "tcp") and _HOST_AND_PORT.fullmatch(host):
                return cls(None, f"{'http' if scheme == 'tcp' else scheme}://{rest}")
        elif "/" in text or (text and ":" not in text):
            return cls._of_socket(text)
        elif _HOST_AND_PORT.fullmatch(text):
            return cls(None, f"http://{text}")
        raise ValueError(
            f"{text!r} is neither the path of a socket, nor HOST:PORT, nor http://HOST:PORT or https://HOST"
        )

    @classmethod
    def _of_socket(cls, text: str) -> Where:
        if not text:
            raise ValueError("unix: needs the path of a socket")
        path = Path(text).absolute()
        return cls(path / "agent.sock" if path.is_dir() else path)

    @property
    def needs_token(self) -> bool:
        return self.socket is None

    def __str__(self) -> str:
        return self.url if self.socket is None else str(self.socket)


def find_token(file: Path | None, environ: Mapping[str, str] = os.environ) -> str:
    """The token from a file, else from the environment; empty if there is none. Raises OSError, ValueError."""
    if file is None:
        token, source = environ.get(TOKEN_VARIABLE, "").strip(), TOKEN_VARIABLE
    else:
        with file.open("rb") as opened:
            token, source = opened.read(_MAX_TOKEN_BYTES).decode(errors="replace").strip(), str(file)
    if not token.isascii() or any(char.isspace() or not char.isprintable() for char in token):
        raise ValueError(f"{source} holds no token: it is one word of ASCII")
    return token
