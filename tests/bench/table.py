"""Figures in Markdown tables, printed row by row as they are measured."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

REPEATS = 3


@dataclass(frozen=True, slots=True)
class Table:
    """A table with a column for each contender; a figure that could not be had is None, shown as a dash."""

    title: str
    columns: tuple[str, ...]

    def begin(self) -> None:
        print(
            f"\n### {self.title}\n\n| | {' | '.join(self.columns)} |\n|---|{'---:|' * len(self.columns)}",
            flush=True,
        )

    def row(self, name: str, *figures: str | None) -> None:
        cells = [figure or "–" for figure in (*figures, *[None] * (len(self.columns) - len(figures)))]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def best_s(run: Callable[[], object], repeats: int = REPEATS) -> float:
    """The shortest of some runs, in seconds: noise only ever adds."""
    return min(_elapsed_s(run) for _ in range(repeats))


def median_s(run: Callable[[], object], repeats: int = REPEATS) -> float:
    """The middle of some runs, for what each run finds differently (caches)."""
    return statistics.median(_elapsed_s(run) for _ in range(repeats))


def _elapsed_s(run: Callable[[], object]) -> float:
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def command_s(program: Path | None, *arguments: str) -> float | None:
    """Seconds that a command took as a whole, None where it is absent or failed."""
    if program is None:
        return None
    command: Sequence[str] = [str(program), *arguments]
    failed: list[int] = []

    def run() -> None:
        failed.append(subprocess.run(command, capture_output=True, check=False).returncode)

    seconds = best_s(run, 1)
    return None if any(failed) else seconds


def milliseconds(seconds: float | None) -> str | None:
    return None if seconds is None else f"{seconds * 1e3:,.1f} ms"


def seconds_text(seconds: float | None) -> str | None:
    return None if seconds is None else f"{seconds:,.2f} s"


def rate(amount: float, seconds: float | None, unit: str) -> str | None:
    """`amount` a second, such as "1,234,567 blocks/s" or "812 MB/s"."""
    return None if seconds is None else f"{amount / seconds:,.0f} {unit}/s"
