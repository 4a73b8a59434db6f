"""The CAR that a command was given: a file, or `-` for standard input."""

from __future__ import annotations

import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeVar

import click

STDIN = "-"
_Function = TypeVar("_Function", bound=Callable[..., object])


def car_argument(function: _Function) -> _Function:
    """Adds the argument CAR.  Whether it exists is not click's business: a missing file is exit code 3, not 2."""
    return click.argument("car", metavar="CAR")(function)


def optional_car_argument(function: _Function) -> _Function:
    """The same, and standard input where it is left out, as go-car's tool has it."""
    return click.argument("car", metavar="[CAR]", required=False, default=STDIN)(function)


@contextmanager
def car_path(car: str) -> Iterator[Path]:
    """The path to read the CAR from; what comes through a pipe lies in an unlinked temporary file meanwhile.

    Everything here seeks (indices, random access, two passes), so a pipe is copied first, also one that has a name: a
    FIFO, or what a shell makes of ``<(zcat export.car.gz)``.
    """
    if car != STDIN:
        if not _is_fifo(car):
            yield Path(car)
            return
        with Path(car).open("rb") as fifo, _copied(fifo) as path:
            yield path
    elif stat.S_ISREG(os.fstat(sys.stdin.fileno()).st_mode):
        yield Path(f"/dev/fd/{sys.stdin.fileno()}")
    else:
        if sys.stdin.isatty():
            print("carfs: reading the CAR from the terminal; Ctrl-D ends it", file=sys.stderr)
        with _copied(sys.stdin.buffer) as path:
            yield path


def _is_fifo(car: str) -> bool:
    try:
        return stat.S_ISFIFO(os.stat(car).st_mode)  # noqa: PTH116  what is wrong is told when the file is opened
    except OSError:
        return False


@contextmanager
def _copied(pipe: BinaryIO) -> Iterator[Path]:
    with tempfile.TemporaryFile(prefix="carfs-stdin-") as copy:
        shutil.copyfileobj(pipe, copy, 1 << 20)
        copy.flush()
        yield Path(f"/dev/fd/{copy.fileno()}")
