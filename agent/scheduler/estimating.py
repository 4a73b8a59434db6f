"""Learns what tasks take from what they took: by kind and size class, the peak that the next one is expected to have.

Values only; the catalogue keeps them, and `required` joins them with the table and the overrides: what the environment
says holds before what was learned, and that before the table's formula.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from agent.scheduler import table
from agent.scheduler.overrides import NONE, Overrides
from agent.scheduler.requirement import Requirement

MARGIN: Final = 1.25
"""What is reserved, by what is expected."""
KILLED: Final = 1.5
"""What is expected of a task that was killed for want of memory, by what it had."""
DECAY: Final = 16
"""A peak below the expected one takes it down by this part of the difference."""
ENOUGH: Final = 4
"""Tasks after which less than the formula says is believed; more is believed at once."""


@dataclass(frozen=True, slots=True)
class Learned:
    """Of tasks of one kind and size class."""

    peak_bytes: int  # that the next one is expected to have
    size_bytes: int  # of the data of the task that this comes from; 0: not known
    tasks: int


@dataclass(frozen=True, slots=True)
class Estimates:
    """All that was learned; changing it gives another one."""

    learned: Mapping[tuple[str, str], Learned] = field(default_factory=dict)
    """By kind and `table.size_class`."""

    def observe(
        self, kind: str, size_bytes: int, peak_bytes: int, killed: bool = False, limit_bytes: int = 0
    ) -> Estimates:
        """One more task has ended, `killed` by its own limit, or by another one for want of memory, or not.

        A peak of 0 is not known, and says nothing unless the task was killed.
        """
        key = kind, table.size_class(size_bytes)
        before = self.learned.get(key)
        if killed:
            needed = int(max(peak_bytes, limit_bytes) * KILLED)
            expected = max(needed, before.peak_bytes if before else 0)
        elif peak_bytes <= 0:
            return self
        elif before is None or peak_bytes >= before.peak_bytes:
            expected = peak_bytes
        else:
            expected = before.peak_bytes - (before.peak_bytes - peak_bytes) // DECAY
        if expected <= 0:
            return self
        is_higher = before is None or expected > before.peak_bytes
        of_size = size_bytes if before is None or is_higher else before.size_bytes
        learned = Learned(expected, of_size, (before.tasks if before else 0) + 1)
        return Estimates({**self.learned, key: learned})

    def estimate(self, kind: str, size_bytes: int) -> int | None:
        """The peak that a task on so much data is expected to have; None: nothing is known that is better than the
        formula."""
        learned = self.learned.get((kind, table.size_class(size_bytes)))
        if learned is None or kind not in table.KINDS:
            return None
        formula, then = table.requirement(kind, size_bytes), table.requirement(kind, learned.size_bytes)
        peak = learned.peak_bytes
        if size_bytes > learned.size_bytes:  # within the class, it may grow as the formula does
            grown = peak * formula.max_memory // max(1, then.max_memory)
            peak = max(peak, min(grown, formula.max_memory))
        if peak < formula.max_memory and learned.tasks < ENOUGH:
            return None
        return max(peak, formula.min_memory)

    def known(self) -> Iterable[tuple[str, str, Learned]]:
        """Kind, size class and what was learned of them, sorted."""
        return [
            (kind, size_class, self.learned[kind, size_class]) for kind, size_class in sorted(self.learned)
        ]


NOTHING: Final = Estimates()


def required(
    kind: str, size_bytes: int, estimates: Estimates = NOTHING, overrides: Overrides = NONE
) -> Requirement:
    """What is to be reserved for a task: by override, else learned, else by formula; raises KeyError."""
    needs = table.requirement(kind, size_bytes)
    peak = estimates.estimate(kind, size_bytes)
    if peak is not None:
        reserved = table.coarse(int(peak * MARGIN))
        needs = replace(needs, max_memory=reserved, min_memory=min(needs.min_memory, reserved))
    return overrides.apply(kind, size_bytes, needs)


def raised(needs: Requirement, limit_bytes: int) -> Requirement:
    """What a task is begun anew with that was killed with `limit_bytes`: more, whatever says that it needs less."""
    return replace(needs, max_memory=max(needs.max_memory, table.coarse(int(limit_bytes * KILLED))))
