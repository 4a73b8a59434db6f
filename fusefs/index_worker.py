"""Builds an index in a process of its own: the mount stays small, and Ctrl-C and progress work meanwhile."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from carlib import errors

_CONTEXT = multiprocessing.get_context("spawn")


@dataclass(frozen=True, slots=True)
class BuiltIndex:
    """What indexing found, in types that cross a pipe; `damage` says why it ended early."""

    version: int
    roots: tuple[str, ...]
    data_offset: int
    data_size: int
    block_count: int
    index_size: int
    damage: str


@dataclass(frozen=True, slots=True)
class Failed:
    """A CarError or OSError of the worker."""

    name: str
    message: str
    source: str | None
    offset: int | None


def build(car: Path, index: Path, progress: Callable[[int, int], None]) -> BuiltIndex:
    """Indexes `car` into `index` as far as it is whole; raises CarError, OSError."""
    mine, theirs = _CONTEXT.Pipe(duplex=False)
    process = _CONTEXT.Process(target=_work, args=(car, index, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        while True:
            message = mine.recv()
            if isinstance(message, tuple):
                progress(*message)
            elif isinstance(message, Failed):
                raise _error(message)
            else:
                assert isinstance(message, BuiltIndex)
                return message
    except EOFError:
        raise OSError(f"the process that indexed {car} ended without a result") from None
    finally:
        if process.is_alive():
            process.terminate()
        process.join()
        mine.close()


def _work(car: Path, index: Path, out: Connection) -> None:
    from carlib.indexing import build as build_index  # here: numpy stays out of the mount

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent has the same Ctrl-C, and ends us
    try:
        report = build_index(car, index, salvage=True, progress=lambda done, total: out.send((done, total)))
    except errors.CarError as error:
        out.send(Failed(type(error).__name__, error.message, error.source, error.offset))
    except OSError as error:
        out.send(Failed("OSError", str(error), None, None))
    else:
        out.send(
            BuiltIndex(
                version=report.version,
                roots=tuple(map(str, report.roots)),
                data_offset=report.data_offset,
                data_size=report.data_size,
                block_count=report.block_count,
                index_size=report.index_size,
                damage="" if report.damage is None else str(report.damage),
            )
        )


def _error(failed: Failed) -> Exception:
    """The worker's error as one of the same class."""
    kind = getattr(errors, failed.name, None)
    if not (isinstance(kind, type) and issubclass(kind, errors.CarError)):
        return OSError(failed.message)
    error = kind.__new__(kind)
    errors.CarError.__init__(error, failed.message, source=failed.source, offset=failed.offset)
    return error
