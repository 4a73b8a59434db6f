"""Imports in a test's own trio loop: a real catalogue, real files, and workers that a test can hold back."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any

import trio

from agent.catalogue import Catalogue
from agent.dagstore.events import Hub
from agent.dagstore.failures import ErrorClass, ShardError, class_of_os_error
from agent.dagstore.indexer import Workers
from agent.imports.imports import Imports
from agent.imports.opening import Importing, open_imports
from agent.imports.records import ImportRecord
from agent.imports.requests import Request
from agent.imports.settings import ImportsConfig
from agent.imports.table import ImportStore
from agent.workers import Needs, WorkerFailed, tasks
from carlib.errors import CarError
from tests.agent.stores import FromThread

NEVER = ImportsConfig(look_interval_s=0)


class Threads:
    """Does tasks in threads of the test, when `gate` is open; may be told to fail instead."""

    def __init__(self) -> None:
        self.gate = trio.Event()
        self.gate.set()
        self.begun: list[str] = []  # kinds, with what is to be done
        self.params: list[dict[str, Any]] = []
        self.fail: Callable[[str], Exception | None] = lambda _kind: None
        self.cancelled = 0

    def hold(self) -> None:
        self.gate = trio.Event()

    async def run(
        self,
        kind: str,
        params: dict[str, Any],
        progress: Callable[[int, int], None] | None = None,
        needs: Needs | None = None,
        *,
        subject: str = "",
        size_bytes: int = 0,
        priority: int = 0,
    ) -> dict[str, Any]:
        self.begun.append(f"{kind} {params.get('what', params.get('kind'))}")
        self.params.append(params)
        try:
            await self.gate.wait()
            failure = self.fail(kind)
            if failure is not None:
                raise failure
            return await trio.to_thread.run_sync(tasks.load(kind), params, _told(progress), FromThread(None))
        except trio.Cancelled:
            self.cancelled += 1
            raise
        except CarError as error:
            raise WorkerFailed(ErrorClass.CORRUPT, str(error)) from error
        except ShardError as error:
            raise WorkerFailed(error.error_class, str(error)) from error
        except OSError as error:
            raise WorkerFailed(class_of_os_error(error), str(error)) from error


def _told(progress: Callable[[int, int], None] | None) -> Callable[[int, int], None]:
    def told(done: int, total: int) -> None:
        if progress is not None:
            trio.from_thread.run_sync(progress, done, total)

    return told


@asynccontextmanager
async def imports_at(
    path: Path,
    workers: Workers | None = None,
    *,
    hub: Hub | None = None,
    settings: ImportsConfig = NEVER,
    store: Callable[[ImportStore], ImportStore] = lambda store: store,
    clock_ns: Callable[[], int] | None = None,
) -> AsyncIterator[Importing]:
    """Imports with their state below `path`; open them again there for what a restart would find."""
    clock = {} if clock_ns is None else {"clock_ns": clock_ns}
    with closing(Catalogue.open(path / "imports.db")) as catalogue:
        async with open_imports(
            store=store(catalogue.imports),
            workers=workers or Threads(),
            hub=hub or Hub(buffer=1000),
            directory=path / "imports",
            staging=path / "staging",
            settings=settings,
            **clock,
        ) as importing:
            yield importing


async def add(
    imports: Imports, path: Path, kind: Any = "auto", *, name: str = "", **more: Any
) -> ImportRecord:
    """The record of what was imported, or is there already."""
    outcome = await imports.add(path, Request(kind, name, **more), wait=True)
    return imports.record(outcome.number)


def tree_at(path: Path, *, files: int = 3, size: int = 5000) -> Path:
    """A directory with files, a folder and a symlink in it, the same each time."""
    (path / "sub").mkdir(parents=True)
    for number in range(files):
        (path / ("sub" if number % 2 else ".") / f"file{number}").write_bytes(bytes([number + 1]) * size)
    (path / "link").symlink_to("file0")
    return path


def everything_below(path: Path) -> set[str]:
    """The files and folders of imports there."""
    return {
        str(found.relative_to(path))
        for folder in ("imports", "staging")
        for found in (path / folder).rglob("*")
    }


def edit(path: Path, data: bytes, *, at: int = 0) -> None:
    """Writes in place, and makes sure that the mtime is another."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1_000_000_000))


@contextmanager
def raising(error_class: ErrorClass) -> Iterator[list[str]]:
    """The block raises a ShardError of that class; its message is in the list."""
    messages: list[str] = []
    try:
        yield messages
    except ShardError as error:
        assert error.error_class is error_class, error
        messages.append(str(error))
    else:
        raise AssertionError(f"nothing was raised; {error_class} was due")
