"""Where an export goes: made in a folder beside its place, and given its name when it is whole. For a worker, which may
block.

`params` are those of the task `export`: `out`, `scratch`, `replace`.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from agent.export.orders import exists
from agent.workers.messages import Params
from carlib import durable


def scratch(params: Params) -> Path:
    """The folder beside `out`, empty; a round that lacked a block may have left something."""
    path = Path(params["scratch"])
    path.mkdir(exist_ok=True)
    left = path / "made"
    if left.is_dir() and not left.is_symlink():
        left.rename(path / f"left-{len(list(path.iterdir()))}")
    else:
        left.unlink(missing_ok=True)
    return path


def place(made: Path, params: Params) -> None:
    """Gives what was made its name; what stands there goes only if that was said."""
    out = Path(params["out"])
    if stat.S_ISREG(made.lstat().st_mode):
        _sync(made)
    if params["replace"]:
        _replace(made, Path(os.path.realpath(out)), Path(params["scratch"]))
    elif not _linked(made, out):
        if os.path.lexists(out):
            raise exists(out)
        made.rename(out)
    durable.sync_folder(out.parent)


def _linked(made: Path, out: Path) -> bool:
    """Whether it has its name now, which the system saw to that nobody else had; not of directories, nor everywhere."""
    try:
        os.link(made, out, follow_symlinks=False)
    except FileExistsError:
        raise exists(out) from None
    except OSError:
        return False
    return True


def _replace(made: Path, out: Path, scratch: Path) -> None:
    if out.is_dir() or (made.is_dir() and not made.is_symlink() and os.path.lexists(out)):
        out.rename(scratch / "replaced")
    made.replace(out)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
