"""`$CARFS_PATH`: where the agent keeps its state, and the lock that keeps it to one agent.

Imports the standard library only, since every RPC client asks it where the socket is.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


class NoHome(Exception):
    """Neither CARFS_PATH nor a home directory says where the state is."""

    def __init__(self) -> None:
        super().__init__(
            "this user has no home directory; set CARFS_PATH to where carfs is to keep its state"
        )


class RepositoryLocked(Exception):
    """Another agent uses the repository; `pid` is its process, if it could be told."""

    def __init__(self, path: Path, pid: int | None) -> None:
        who = "another agent" if pid is None else f"another agent (process {pid})"
        super().__init__(f"{who} uses {path}; stop it, or set CARFS_PATH to another directory")
        self.pid = pid


@dataclass(frozen=True, slots=True)
class Repository:
    """The paths below one `$CARFS_PATH`."""

    path: Path
    dagstore: str = "dagstore"  # where index/, inverted/, … are, from `path`

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Repository:
        """`$CARFS_PATH`, or `~/.carfs`; raises NoHome."""
        try:
            return cls(Path(environ.get("CARFS_PATH") or Path.home() / ".carfs").absolute())
        except RuntimeError:
            raise NoHome from None

    @property
    def config(self) -> Path:
        return self.path / "config.toml"

    @property
    def catalogue(self) -> Path:
        return self.path / "carfs.db"

    @property
    def socket(self) -> Path:
        """The agent's socket, or a symbolic link to where config has put it."""
        return self.path / "agent.sock"

    @property
    def token_secret(self) -> Path:
        """What bearer tokens are signed with; for the agent's user only."""
        return self.path / "token-secret"

    @property
    def lock(self) -> Path:
        return self.path / "lock"

    @property
    def indices(self) -> Path:
        return self.path / self.dagstore / "index"

    @property
    def inverted(self) -> Path:
        return self.path / self.dagstore / "inverted"

    @property
    def transients(self) -> Path:
        return self.path / self.dagstore / "transients"

    @property
    def repairs(self) -> Path:
        """Good bytes for what is bad in shards' data."""
        return self.path / self.dagstore / "repairs"

    @property
    def imports(self) -> Path:
        return self.path / "imports"

    @property
    def retrievals(self) -> Path:
        """A CARv2 for each retrieval."""
        return self.path / "retrievals"

    @property
    def staging(self) -> Path:
        """What is on its way; whatever is put here to be imported is taken over."""
        return self.path / "staging"

    def create_top(self) -> None:
        """Makes `path`, if it is missing, for its owner only; raises OSError."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.mkdir(mode=0o700, exist_ok=True)
        except FileExistsError as error:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), error.filename) from error

    def create(self) -> None:
        """Makes what is missing of the layout; raises OSError."""
        self.create_top()
        try:
            for directory in (
                self.indices,
                self.inverted,
                self.transients,
                self.repairs,
                self.imports,
                self.retrievals,
                self.staging,
            ):
                directory.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), error.filename) from error


@contextmanager
def locked(repository: Repository) -> Iterator[None]:
    """Holds the repository for this process; the system lets go of it however the process ends.

    Raises RepositoryLocked, OSError.
    """
    descriptor = os.open(repository.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            text = os.read(descriptor, 32).strip()
            raise RepositoryLocked(repository.path, int(text) if text.isdigit() else None) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)
