"""Whether a remote worker sees what the agent sees: the state folder, and the files that a task is about.

The agent writes a file of chance content into its folder and says what stands in it; the worker looks. With each task
it says how the files are that the task reads (a *sight*), and the worker compares: what is on another disk, or is an
older copy, is none of its business. Both halves block, and belong into a thread.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import msgspec

from agent.workers.messages import Params
from carlib.durable import replacing

PROOF = "worker-proof"  # below $CARFS_PATH
_MAX_PROOF_BYTES = 100


class Sight(msgspec.Struct, frozen=True):
    """One file as it is, 0 for what does not count; or (without an inode) a folder in which one must be able to
    write."""

    path: str
    size: int = 0
    mtime_ns: int = 0
    inode: int = 0


def write_proof(directory: Path) -> str:
    """Puts a new proof into the agent's folder, and gives it; raises OSError."""
    proof = secrets.token_urlsafe(16)
    with replacing(directory / PROOF, mode=0o644) as file:
        file.write(proof.encode())
    return proof


def trouble_with(directory: Path, proof: str) -> str:
    """Why the agent's folder is not the one that is seen here; empty if it is."""
    path = directory / PROOF
    advice = f"the agent's {directory} must be at the same path here"
    try:
        with path.open("rb") as file:
            found = file.read(_MAX_PROOF_BYTES)
    except OSError as error:
        return f"cannot read {path}: {error.strerror}; {advice}"
    return "" if found == proof.encode() else f"{directory} is not the agent's, but another one; {advice}"


def sights(params: Params) -> list[Sight]:
    """How the files that a task reads are now. One that is missing is left out: to say so is up to the task."""
    found = []
    for path, is_filling in _files(params):
        try:
            status = os.stat(path)  # noqa: PTH116  it may be no path that a `Path` keeps as it is
        except OSError:
            continue
        size, mtime_ns = (0, 0) if is_filling else (status.st_size, status.st_mtime_ns)
        found.append(Sight(path=path, size=size, mtime_ns=mtime_ns, inode=status.st_ino))
    return found


def difference(due: list[Sight]) -> str:
    """How what is seen here is not what the agent has seen; empty if it is the same."""
    for sight in due:
        found = _difference(sight)
        if found:
            return found
    return ""


def disk_left(folder: str) -> int:
    """Bytes that can be written there; 0 if that cannot be told."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return 0
    return found.f_bavail * found.f_frsize


def _difference(sight: Sight) -> str:
    path = sight.path
    try:
        status = os.stat(path)  # noqa: PTH116  likewise
    except OSError as error:
        return f"{path}: {error.strerror}"
    if not sight.inode:
        writable = os.access(path, os.W_OK | os.X_OK)
        return "" if writable else f"user {os.geteuid()} cannot write in {path}"
    if not os.access(path, os.R_OK):
        return f"user {os.geteuid()} cannot read {path}"
    now = {"size": status.st_size, "mtime_ns": status.st_mtime_ns, "inode": status.st_ino}
    due = {"size": sight.size, "mtime_ns": sight.mtime_ns, "inode": sight.inode}
    others = [
        f"{name} {value}, not {due[name]}" for name, value in now.items() if due[name] not in (0, value)
    ]
    return f"{path} is another file here, or another version of it: {', '.join(others)}" if others else ""


def _files(params: Params) -> Iterator[tuple[str, bool]]:
    """The files that are named, and whether somebody writes to them meanwhile."""
    for name in ("path", "index"):
        if params.get(name):
            yield params[name], False
    access = params.get("access")
    if access is not None and access["Kind"] == "repaired":
        yield access["Repairs"], True
        access = access["Base"]
    match access:
        case {"Kind": "transient", "Data": data, "Map": chunk_map}:
            yield data, True
            yield chunk_map, True
        case {"Path": path}:
            yield path, False
