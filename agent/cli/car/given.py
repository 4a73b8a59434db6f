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
from typing import TypeVar

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

    Everything here seeks (indices, random access, two passes), so a pipe is copied first.
    """
    if car != STDIN:
        yield Path(car)
    elif stat.S_ISREG(os.fstat(sys.stdin.fileno()).st_mode):
        yield Path(f"/dev/fd/{sys.stdin.fileno()}")
    else:
        if sys.stdin.isatty():
            print("carfs: reading the CAR from the terminal; Ctrl-D ends it", file=sys.stderr)
        with tempfile.TemporaryFile(prefix="carfs-stdin-") as copy:
            shutil.copyfileobj(sys.stdin.buffer, copy, 1 << 20)
            copy.flush()
            yield Path(f"/dev/fd/{copy.fileno()}")
