"""How long tasks wait for memory: PSI (Documentation/accounting/psi.rst), of the group that is tightest.

some avg10=0.12 avg60=0.05 avg300=0.01 total=8123
full avg10=0.00 avg60=0.00 avg300=0.00 total=417
"""

from __future__ import annotations

import re

from agent.resources.context import Context
from agent.resources.facts import Fact, Pressure

SOURCE = "pressure"
HOST = "/proc/pressure/memory"
_FILE = "memory.pressure"
_AVERAGE = re.compile(r"^(some|full) avg10=([0-9]{1,3}(?:\.[0-9]{1,6})?) ", re.MULTILINE)


def pressure(context: Context, tightest: Fact | None) -> Pressure | None:
    """That of the level which has least memory left; else of the own group, of the groups above it, of the machine.
    The machine's first where the machine has least left.

    The files are on v2 alone. Where memory is on v1, the group of the same process on v2 tells how it fares.
    """
    for file, level in _candidates(context, tightest):
        text = context.text(SOURCE, file, optional=True)
        if text is None:
            continue
        found = parsed(text)
        if found is not None:
            return Pressure(*found, level, file)
        context.problem(SOURCE, file, f"{text[:40]!r} is not PSI")
    return None


def parsed(text: str) -> tuple[float, float] | None:
    """`some` and `full` of the last 10 s, in percent; None: it is not PSI."""
    averages = {kind: float(average) for kind, average in _AVERAGE.findall(text)}
    if "some" not in averages:
        return None
    return averages["some"], averages.get("full", 0.0)


def _candidates(context: Context, tightest: Fact | None) -> list[tuple[str, str]]:
    place = context.groups.v2
    levels = [] if place is None else list(reversed(place.levels))
    if tightest is not None:
        levels.sort(key=lambda level: not tightest.file.startswith(f"{level.folder}/memory."))  # stable
    files = [
        (f"{level.folder}/{_FILE}", level.name)
        for level in levels
        # The machine's top group has no type, and its pressure is the machine's.
        if level.name != "/" or context.files.exists(f"{level.folder}/cgroup.type")
    ]
    is_machine = tightest is not None and tightest.level == "host"
    files.insert(0 if is_machine else len(files), (HOST, "host"))  # a unit may hide it (ProcSubset=pid)
    return files
