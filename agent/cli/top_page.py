"""What `carfs top` shows: one page of lines that fits a terminal, made of what the agent said last. Pure.

From the top: the agent, its limits as bars, its workers, and as many tasks as there is room for; first those that run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from agent.cli.bars import Line, Part, bar, cells, cut, fitted, percent
from agent.cli.calls import shown
from agent.cli.load import ID_SHOWN, age, duration_text, legend, memory_parts, waits_for
from agent.cli.output import Styled, counted, seconds, size_text

Json = Any  # any value that JSON can carry

LEAST_WIDTH, LEAST_HEIGHT = 40, 8
LONGEST_BAR = 30
WORKERS_SHOWN = 4
STALE_S = 5.0  # after which a page says how old it is


@dataclass(frozen=True, slots=True)
class View:
    """What is known; None: not (yet)."""

    status: Json = None  # of Carfs.Status
    limits: Json = None
    tasks: Json = None
    problem: str = ""  # why nothing newer comes
    age_s: float = 0.0  # of limits and tasks


def page(view: View, width: int, height: int | None, *, plain: bool = False) -> list[Line]:
    """The lines of a page, none wider than `width` and at most `height`; None: all there is, cut nowhere."""
    room = max(LEAST_WIDTH, width)
    lines = [*_head(view, room), *_notice(view)]
    if view.tasks is not None:
        lines += [(), *_limits(view.limits, view.tasks, room, plain=plain)]
        if len(view.tasks["Workers"]) > 1:  # else the bars above are those of the one there is
            lines += [(), *_workers(view.tasks["Workers"], room)]
        left = None if height is None else max(0, max(LEAST_HEIGHT, height) - len(lines) - 2)
        lines += [(), *_tasks(view.tasks, room, left)]
    if height is None:
        return lines
    keys = (Styled("q ends    "), *(legend(plain=plain) if view.tasks is not None else ()))
    body = lines[: max(1, height - 1)]
    return [*(_clipped(line, width) for line in [*body, *[()] * (height - 1 - len(body)), keys])][:height]


def _head(view: View, width: int) -> list[Line]:
    status = view.status
    if status is None:
        return [] if view.problem else [(Styled("asking the agent …"),)]
    left = f"carfs {status['Version']}, process {status['Pid']}, up {duration_text(status['UptimeSeconds'])}"
    clock = "" if view.tasks is None else seconds(view.tasks["At"]).replace("T", " ")
    gap = max(2, width - cells(left) - cells(clock))
    shards = [f"{count} {state.removeprefix('ShardState')}" for state, count in status["Shards"].items()]
    failing = (
        f"; {counted(len(status['UnhealthyOrigins']), 'failing host')}" if status["UnhealthyOrigins"] else ""
    )
    return [
        (Styled(f"{left}{' ' * gap}{clock}"),),
        (Styled(f"shards: {', '.join(shards) or 'none'}{failing}"),),
    ]


def _notice(view: View) -> list[Line]:
    old = f", as it was {duration_text(view.age_s)} ago" if view.tasks is not None else ""
    if view.problem:
        return [(Styled(f"{shown(view.problem)}{old}", "red"),)]
    return [(Styled(f"the agent says nothing{old}", "yellow"),)] if view.age_s > STALE_S else []


def _limits(limits: Json, tasks: Json, width: int, *, plain: bool) -> list[Line]:
    own = tasks["Workers"][0] if tasks["Workers"] else None
    lines = _bound("memory", limits["Memory"], size_text, width, own, plain=plain)
    if limits["Swap"]["Limit"]:
        lines += _bound("swap", limits["Swap"], size_text, width, plain=plain)
    if own is not None:
        words = bar(own["CPUs"], [Part(own["CPUsUsed"])], _bar_width(width), plain=plain)
        lines.append((Styled("cpus      "), *words, Styled(f" {own['CPUsUsed']} of {own['CPUs']} for tasks")))
    pids = limits["Pids"]
    if pids["Limit"] is not None and pids["Headroom"] is not None and pids["Headroom"] * 4 < pids["Limit"]:
        lines += _bound("processes", pids, str, width, plain=plain)
    return [*lines, _pressure(limits["Pressure"], own)]


def _bound(
    name: str, found: Json, text: Callable[[int], str], width: int, own: Json = None, *, plain: bool
) -> list[Line]:
    if found["Limit"] is None or found["Headroom"] is None:
        limit = "nothing limits it" if found["Limit"] is None else f"at most {text(found['Limit'])}"
        return [(Styled(f"{name:10}{limit}"),)]
    share = percent(found["Limit"], found["Used"])
    by = cut(shown(found["HeadroomBy"]), width - 32, keep_end=True)
    words = (
        Styled(f"{name:10}"),
        *bar(found["Limit"], memory_parts(found, own), _bar_width(width), plain=plain),
        Styled(f" {share:>5}  {text(found['Used'])} of {text(found['Limit'])}"),
    )
    return [words, (Styled(f"{'':10}{text(found['Headroom'])} left under {by}"),)]


def _pressure(found: Json, own: Json) -> Line:
    if own is not None and own["Pressed"]:
        return (Styled("pressure  "), Styled(f"nothing new begins: {shown(own['Pressed'])}", "red"))
    if found is None:
        return (Styled("pressure  not measured by this kernel"),)
    text = f"some tasks waited for memory {found['Some10s']:.1f} % of 10 s, all {found['Full10s']:.1f} %"
    return (Styled("pressure  "), Styled(text, "yellow" if found["Some10s"] >= 10 else ""))


def _workers(workers: Json, width: int) -> list[Line]:
    name = max(8, width - 8 - 10 - 6 - 25 - 8)
    lines = [_heading(f"{'WORKER':8}  {'HOST':{name}}  {'STATE':8}  {'TASKS':>5}  {'MEMORY':23}")]
    for one in workers[:WORKERS_SHOWN]:
        state = Styled(f"{'enabled':8}", "green") if one["IsEnabled"] else Styled(f"{'disabled':8}", "yellow")
        memory = f"{size_text(one['MemoryUsedBytes'])} of {size_text(one['MemoryBytes'])}"
        lines.append(
            (
                Styled(f"{one['ID'][:ID_SHOWN]:8}  {fitted(shown(one['Name']), name)}  "),
                state,
                Styled(f"  {one['Tasks']:>5}  {memory}"),
            )
        )
    more = len(workers) - WORKERS_SHOWN
    return [*lines, (Styled(f"and {more} more"),)] if more > 0 else lines


def _tasks(tasks: Json, width: int, room: int | None) -> list[Line]:
    """A heading, and the tasks that there is room for, in `room` lines."""
    summary = f"tasks: {tasks['Running']} running, {tasks['Waiting']} waiting"
    if not tasks["Tasks"]:
        return [(Styled(summary),)]
    subject = max(8, width - 8 - 9 - 9 - 8 - 5 - 17 - 12)
    head = (
        f"{'ID':8}  {'TASK':9}  {fitted('SHARD', subject)}  {'STATE':9}  {'TIME':>8}  {'DONE':>5}  {'MEMORY'}"
    )
    lines: list[Line] = [(Styled(summary),), _heading(head)]
    reason, shown_tasks = "", 0
    for one in tasks["Tasks"]:
        added = _task(one, tasks["At"], subject)
        if one["State"] == "waiting" and waits_for(one) != reason:
            reason = waits_for(one)
            added.append((Styled(f"  {reason}", "red" if one["IsHopeless"] else "yellow"),))
        if room is not None and len(lines) + len(added) > room - 1 and shown_tasks + 1 < len(tasks["Tasks"]):
            break
        lines += added
        shown_tasks += 1
    more = tasks["Running"] + tasks["Waiting"] - shown_tasks
    return [*lines, (Styled(f"and {counted(more, 'more task')}"),)] if more else lines


def _task(one: Json, now: str, subject: int) -> list[Line]:
    waits = one["State"] == "waiting"
    word = f"place {one['Place']}" if waits else "running" if one["State"] == "active" else one["State"]
    done = percent(one["Total"], one["Done"]) if one["Total"] else ""
    memory = "" if waits or not one["UsedBytes"] else _memory(one)
    color = "yellow" if waits else "green" if one["State"] == "active" else "blue"
    return [
        (
            Styled(f"{one['ID'][:ID_SHOWN]:8}  {fitted(one['Kind'], 9)}  {fitted(shown(one['Subject']), subject)}  "),
            Styled(fitted(word, 9), color),
            Styled(f"  {_short_age(one['StartedAt'] or one['QueuedAt'], now):>8}  {done:>5}  {memory}"),
        )
    ]  # fmt: skip


def _memory(one: Json) -> str:
    return f"{size_text(one['UsedBytes'])}/{size_text(one['LimitBytes'] or one['NeedsBytes'])}"


def _short_age(since: str, now: str) -> str:
    """In at most eight columns: "1 h 5 min" is too long for a column."""
    return age(since, now).replace(" min", "m").replace(" h", "h").replace(" s", "s").replace(" d", "d")


def _bar_width(width: int) -> int:
    return max(8, min(LONGEST_BAR, width - 38))


def _heading(text: str) -> Line:
    return (Styled(text, "blue"),)


def _clipped(line: Line, width: int) -> Line:
    """The line in at most so many columns."""
    if sum(cells(word.text) for word in line) <= width:
        return line
    words: list[Styled] = []
    left = width
    for word in line:
        words.append(Styled(cut(word.text, left), word.color))
        left -= cells(words[-1].text)
        if words[-1].text != word.text or left <= 0:
            break
    return tuple(words)
