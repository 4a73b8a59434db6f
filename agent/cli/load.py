"""Limits, workers and tasks as lines for people: `carfs status`, `carfs resources`, `carfs worker`, `carfs top`. Pure.

All take JSON as `agent.resources.document` and `agent.scheduler.document` describe it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from agent.cli.bars import Line, Part, bar
from agent.cli.calls import shown
from agent.cli.output import Styled, size_text

Json = Any  # any value that JSON can carry

BAR_WIDTH = 26
LABEL_WIDTH = 10
ID_SHOWN = 8  # characters of a UUID, as Lotus shows them; every command takes so many
PRESSED_PERCENT = 10.0


def limit_lines(limits: Json, own: Json = None, *, plain: bool = False) -> list[Line]:
    """Memory, swap, CPUs, processes and pressure: bars, what is left and what binds. `own`: the agent's own worker,
    where what tasks take is to be told from the rest."""
    memory, swap, cpus, pids = (limits[name] for name in ("Memory", "Swap", "MilliCpus", "Pids"))
    cpus_used = None if own is None else own["CPUsUsed"]
    lines: list[Line] = [_bound("memory", memory, size_text, plain, own)]
    if swap["Limit"]:
        lines.append(_bound("swap", swap, size_text, plain))
    elif swap["Limit"] == 0:
        lines.append((_label("swap"), Styled(f"none, by {shown(swap['LimitBy'])}")))
    lines.append(_cpus(cpus, cpus_used, plain))
    if pids["Limit"] is not None:
        lines.append(_bound("processes", pids, str, plain))
    return [*lines, _pressure(limits["Pressure"])]


def memory_parts(memory: Json, own: Json) -> list[Part]:
    """What a bar of memory is made of: what tasks use, what others use, and what tasks were given beyond that."""
    is_short = memory["Headroom"] * 10 < memory["Limit"]
    tasks = 0 if own is None else max(0, min(memory["Used"], own["MemoryTasksBytes"]))
    reserved = 0 if own is None else own["MemoryReservedBytes"]
    return [
        Part(tasks, "red" if is_short else "green"),
        Part(memory["Used"] - tasks, "red" if is_short else "yellow", "▓", "="),
        Part(reserved, "blue", "░", "-"),
    ]


def legend(*, plain: bool) -> Line:
    """What the parts of a bar of memory are."""
    words = ("tasks", "others", "reserved for tasks")
    parts = memory_parts({"Headroom": 1, "Limit": 1, "Used": 0}, None)
    return tuple(
        word
        for part, text in zip(parts, words, strict=True)
        for word in (Styled(part.ascii if plain else part.solid, part.color), Styled(f" {text}  "))
    )


def task_lines(tasks: Json) -> list[Line]:
    """A line for each task: what it does, or what it waits for."""
    lines: list[Line] = []
    for one in tasks["Tasks"]:
        what = f"{one['Kind']} {shown(one['Subject'])}: "
        if one["State"] == "waiting":
            lines.append((_label("waiting"), Styled(what + waits_for(one), "yellow")))
        else:
            word = "running" if one["State"] == "active" else one["State"]
            facts = [progress_text(one), age(one["StartedAt"], tasks["At"]), memory_text(one, "memory ")]
            lines.append((_label(word), Styled(what + ", ".join(filter(None, facts)))))
    return lines


def waits_for(task: Json) -> str:
    """Why a task waits, in a sentence."""
    reason = shown(task["WaitsFor"]) or "its turn"
    return f"{reason}; limits have to change, or it waits for ever" if task["IsHopeless"] else reason


def progress_text(task: Json) -> str:
    """ "512 MiB of 1.0 GiB (50 %)"; "" before it is known."""
    done, total = task["Done"], task["Total"]
    if not total:
        return size_text(done) if done else ""
    return f"{size_text(done)} of {size_text(total)} ({min(100, 100 * done // total)} %)"


def memory_text(task: Json, word: str = "") -> str:
    """What its process takes, of what it may; "" where it has none."""
    if not task["UsedBytes"]:
        return ""
    most = task["LimitBytes"] or task["NeedsBytes"]
    return f"{word}{size_text(task['UsedBytes'])} of {size_text(most)}"


def age(since: str, now: str) -> str:
    """How long that is: "12 s"; "" where it is not known. Both by the agent's clock."""
    if not since or not now:
        return ""
    passed = datetime.fromisoformat(now) - datetime.fromisoformat(since)
    return duration_text(max(0.0, passed.total_seconds()))


def duration_text(seconds: float) -> str:
    """A duration for people."""
    minutes, hours, days = int(seconds) // 60, int(seconds) // 3600, int(seconds) // 86400
    if days:
        return f"{days} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min {int(seconds) % 60} s" if minutes else f"{int(seconds)} s"


def text_of(line: Line, *, color: bool = False) -> str:
    """A line as it is printed."""
    return "".join(word.text_in(color) for word in line).rstrip()


def _bound(
    name: str, found: Json, text: Any, plain: bool, own: Json = None
) -> Line:  # Any: a number to its text
    if found["Limit"] is None:
        return (_label(name), Styled("nothing limits it"))
    limited, left_by = shown(found["LimitBy"]), shown(found["HeadroomBy"])
    if found["Headroom"] is None:
        return (_label(name), Styled(f"at most {text(found['Limit'])}, by {limited}"))
    of = f"{text(found['Limit'])}" + ("" if limited == left_by else f" ({limited})")
    return (
        _label(name),
        *bar(found["Limit"], memory_parts(found, own), BAR_WIDTH, plain=plain),
        Styled(f" {text(found['Used'])} of {of}, {text(found['Headroom'])} left"),
        Styled(f" under {left_by}"),
    )


def _cpus(found: Json, used: int | None, plain: bool) -> Line:
    if found["Limit"] is None:
        return (_label("cpus"), Styled("nothing limits them"))
    count = found["Limit"] / 1000
    binding = Styled(f", by {shown(found['LimitBy'])}")
    if used is None:
        return (_label("cpus"), Styled(f"{count:g}"), binding)
    words = bar(count, [Part(used)], BAR_WIDTH, plain=plain)
    return (_label("cpus"), *words, Styled(f" {used} of {count:g} for tasks"), binding)


def _pressure(found: Json) -> Line:
    if found is None:
        return (_label("pressure"), Styled("not measured by this kernel"))
    some, full = found["Some10s"], found["Full10s"]
    color = "red" if full >= PRESSED_PERCENT else "yellow" if some >= PRESSED_PERCENT else ""
    text = f"memory: some tasks waited {some:.1f} %, all {full:.1f} % of the last 10 s"
    return (_label("pressure"), Styled(text, color), Styled(f", {shown(found['Level'])}"))


def _label(word: str) -> Styled:
    return Styled(f"{word:{LABEL_WIDTH}}")
