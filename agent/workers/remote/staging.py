"""What a remote worker writes: each attempt in a folder of its own, of which the agent takes what it has accepted.

A worker that is believed lost may go on for a while, and finish what another one does meanwhile. So it never writes
under the name that is wanted: the result of an attempt gets its name here, when it has been accepted, and what an
attempt leaves that was given up is in nobody's way. The folder lies where the task would have its scratch, and so is
swept with that at the next start.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from agent.workers.messages import Params
from carlib import durable

WRITING = frozenset({"index"})
"""Kinds with `scratch`, a folder to work in, and `out`, a file that is to appear."""
READING = frozenset({"verify", "commp"})
"""Kinds that write nothing."""
KINDS = WRITING | READING
"""What a remote worker can be given. All others write where the agent alone may, or need its database."""


class Staged:
    """One attempt: `params` are those for the worker. All methods block."""

    def __init__(self, kind: str, params: Params, assignment: str) -> None:
        self.params = params
        self.assignment = assignment
        self.folder: Path | None = None
        self._out: Path | None = None
        if kind in WRITING:
            scratch, self._out = Path(params["scratch"]), Path(params["out"])
            self.folder = scratch.with_name(f"{scratch.name}.{assignment}")
            made = {"scratch": str(self.folder / "making"), "out": str(self.folder / self._out.name)}
            self.params = {**params, **made}

    def make(self) -> None:
        """Makes the folder; raises OSError."""
        if self.folder is not None:
            self.folder.mkdir(parents=True)

    def accept(self) -> None:
        """Gives the result its name, on disk; raises OSError where there is none, or it cannot be moved."""
        if self.folder is not None and self._out is not None:
            (self.folder / self._out.name).rename(self._out)
            durable.sync_folder(self._out.parent)

    def discard(self) -> None:
        """Removes what is left. Whoever still works there finds its folder gone, and fails."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
