"""Progress of commands that can last: a bar on a terminal, else a line now and then; nothing with `--quiet`.

All of it goes to stderr; stdout belongs to the result.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from agent.cli.output import size_text

Step = Callable[[int, int], None]
"""Takes (bytes done, bytes in all; 0 = not known): the callback that carlib's long calls accept."""

LINE_INTERVAL_S = 10.0
"""Between two lines where there is no terminal: often enough to see life, rare enough for a log."""


@contextmanager
def progress(what: str, *, quiet: bool = False, unit: str = "") -> Iterator[Step]:
    """Gives the callback to report to while the block runs; `what` says what is being done, to what, `unit` what is
    counted where that is not bytes."""
    if quiet:
        yield lambda _done, _total: None
    elif sys.stderr.isatty():
        with _bar(what, unit) as step:
            yield step
    else:
        yield _Lines(what, unit).step


@contextmanager
def progress_beside_output(what: str, *, quiet: bool = False) -> Iterator[Step]:
    """The same for commands that print as they go: on a terminal that shows life, and a bar would be in it."""
    with progress(what, quiet=quiet or sys.stdout.isatty()) as step:
        yield step


@contextmanager
def _bar(what: str, unit: str) -> Iterator[Step]:
    from rich import progress as rich_progress
    from rich.console import Console

    amounts = (
        (rich_progress.MofNCompleteColumn(), rich_progress.TextColumn(unit))
        if unit
        else (rich_progress.DownloadColumn(binary_units=True), rich_progress.TransferSpeedColumn())
    )
    columns = (
        rich_progress.TextColumn("{task.description}", markup=False),
        rich_progress.BarColumn(),
        *amounts,
        rich_progress.TimeRemainingColumn(),
    )
    both = sys.stdout.isatty()  # what is printed goes above the bar; elsewhere it goes where it was sent
    console = Console(stderr=True, soft_wrap=True)
    with rich_progress.Progress(*columns, console=console, transient=True, redirect_stdout=both) as shown:
        task = shown.add_task(what, total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total or None)


class _Lines:
    """Plain lines, at most one every `LINE_INTERVAL_S`; work that ends sooner prints none."""

    def __init__(self, what: str, unit: str) -> None:
        self._what = what
        self._unit = unit
        self._started = self._printed = time.monotonic()

    def step(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._printed >= LINE_INTERVAL_S:
            self._printed = now
            print(
                line_text(self._what, done, total, now - self._started, self._unit),
                file=sys.stderr,
                flush=True,
            )


def line_text(what: str, done: int, total: int, elapsed_s: float, unit: str = "") -> str:
    """One line of progress, such as "indexing a.car: 1.0 GiB of 4.0 GiB (25 %), 512 MiB/s, 6 s left"."""
    if unit:
        return f"{what}: {done}{f' of {total}' if total else ''} {unit}"
    rate = done / elapsed_s if elapsed_s > 0 else 0.0
    speed = f"{size_text(rate)}/s"
    if total <= 0:
        return f"{what}: {size_text(done)}, {speed}"
    left = f", {(total - done) / rate:.0f} s left" if rate else ""
    return f"{what}: {size_text(done)} of {size_text(total)} ({100 * done // total} %), {speed}{left}"
