"""`carfs worker info | list | jobs | resources | sched-diag`: workers and tasks as they are now."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from agent.cli.bars import Line, Part, bar, takes_blocks
from agent.cli.calls import call, shown
from agent.cli.command import command, example, json_option
from agent.cli.exits import CommandFailed, Exit
from agent.cli.load import (
    BAR_WIDTH,
    ID_SHOWN,
    age,
    memory_parts,
    memory_text,
    progress_text,
    task_lines,
    text_of,
    waits_for,
)
from agent.cli.output import Styled, color_option, emit_json, emit_table, size_text

Json = Any  # any value that JSON can carry


@command(epilog=example("carfs worker info", "carfs worker info 6f5902ac --json"))
@click.argument("id", required=False, default="")
@json_option
def info(id: str, as_json: bool) -> None:
    """Show one worker, the agent's own unless ID names another: its memory, swap and CPUs, and what it does."""
    tasks = call("Carfs.Tasks")
    found = named(tasks["Workers"], id, "worker") if id else tasks["Workers"][0]
    if as_json:
        emit_json(found)
        return
    swap = f"{size_text(found['SwapUsedBytes'])}/{size_text(found['SwapBytes'])}"
    print(f"Worker:   {found['ID']}")
    print(f"Hostname: {shown(found['Name'])}")
    print(f"Enabled:  {'yes' if found['IsEnabled'] else 'no'}")
    print(f"CPUs:     {found['CPUsUsed']}/{found['CPUs']}")
    print(f"RAM:      {size_text(found['MemoryUsedBytes'])}/{size_text(found['MemoryBytes'])}; Swap: {swap}")
    print(f"Left:     {size_text(found['MemoryLeftBytes'])} under {shown(found['MemoryBy'])}")
    print(f"Disk:     {size_text(found['DiskLeftBytes'])} free")
    print(f"Groups:   {shown(tasks['Groups'])}")
    if found["Pressed"]:
        print(f"Pressed:  {shown(found['Pressed'])}")
    if found["Note"]:
        print(f"Note:     {shown(found['Note'])}")
    print(f"Tasks:    {', '.join(found['Kinds'])}")
    own = [one for one in tasks["Tasks"] if one["Worker"] == found["ID"]]
    for line in task_lines({**tasks, "Tasks": own}):
        print(text_of(line))


@command(epilog=example("carfs worker list", "carfs worker list --json | jq '.[].Kinds'"))
@color_option
@json_option
def list_workers(color: bool, as_json: bool) -> None:
    """List the workers, the agent's own first, with bars of their CPUs and memory.

    Memory that counts as used is all that is not left under the limit, whoever has taken it.
    """
    workers = call("Carfs.Tasks", {"Limit": 1})["Workers"]
    if as_json:
        emit_json(workers)
        return
    for one in workers:
        disabled = "" if one["IsEnabled"] else " (disabled)"
        print(f"Worker {one['ID']}, host {shown(one['Name'])}{disabled}")
        for line in _bars(one, plain=not takes_blocks()):
            print(f"  {text_of(line, color=color)}")
        if one["Pressed"]:
            print(f"  given nothing new: {shown(one['Pressed'])}")
        if one["Note"]:
            print(f"  {shown(one['Note'])}")


def _bars(one: Json, *, plain: bool) -> list[Line]:
    def line(name: str, whole: int, parts: list[Part], text: str) -> Line:
        return (Styled(f"{name:5}"), *bar(whole, parts, BAR_WIDTH, plain=plain), Styled(f" {text}"))

    of_memory = {
        "Limit": one["MemoryBytes"], "Used": one["MemoryUsedBytes"], "Headroom": one["MemoryLeftBytes"]
    }  # fmt: skip
    memory = f"{size_text(one['MemoryUsedBytes'])}/{size_text(one['MemoryBytes'])}, {shown(one['MemoryBy'])}"
    swap = f"{size_text(one['SwapUsedBytes'])}/{size_text(one['SwapBytes'])}"
    lines = [
        line("CPU", one["CPUs"], [Part(one["CPUsUsed"])], f"{one['CPUsUsed']}/{one['CPUs']}"),
        line("RAM", one["MemoryBytes"], memory_parts(of_memory, one), memory),
    ]
    if one["SwapBytes"]:
        lines.append(line("SWAP", one["SwapBytes"], [Part(one["SwapUsedBytes"])], swap))
    return lines


@command(
    epilog=example("carfs worker jobs", "carfs worker jobs --json | jq '.[] | select(.State == \"waiting\")'")
)
@color_option
@json_option
def jobs(color: bool, as_json: bool) -> None:
    """List the tasks that have not ended: those that run, then those that wait, in the order in which they will begin.

    The state of one that waits is its place in the queue; what it waits for is in the last column.
    """
    found = call("Carfs.Tasks")
    if as_json:
        emit_json(found["Tasks"])
        return
    rows = [_job(one, found["At"]) for one in found["Tasks"]]
    if rows:
        headings = ("ID", "Shard", "Worker", "Hostname", "Task", "State", "Time", "Progress")
        emit_table(headings, rows, color=color)


def _job(one: Json, now: str) -> tuple[object, ...]:
    waits = one["State"] == "waiting"
    state = Styled(f"waiting({one['Place']})", "yellow") if waits else _state(one["State"])
    progress = ", ".join(filter(None, (progress_text(one), memory_text(one, "memory "))))
    return (
        one["ID"][:ID_SHOWN],
        shown(one["Subject"]),
        one["Worker"][:ID_SHOWN],
        shown(one["Hostname"]),
        one["Kind"],
        state,
        age(one["StartedAt"] or one["QueuedAt"], now),
        waits_for(one) if waits else progress,
    )


def _state(phase: str) -> Styled:
    return Styled("running", "green") if phase == "active" else Styled(phase, "blue")


@command(epilog=example("carfs worker resources --all", "INDEX_32G_MAX_MEMORY=1GiB carfs worker resources"))
@click.option("--all", "all_", is_flag=True, help="What holds for each kind of task and size, set or not.")
@click.option("--default", is_flag=True, help="What holds where nothing is set.")
def resources(all_: bool, default: bool) -> None:
    """List the variables of this environment that say what tasks need; those of the agent's are the agent's own.

    A variable is KIND_SIZE_FIELD or KIND_FIELD, as Lotus has them; the first wins. One that makes no sense is refused.
    """
    from agent.scheduler.overrides import OverrideError, from_environment

    if all_ and default:
        raise click.UsageError("give --all or --default, not both")
    try:
        overrides = from_environment(os.environ)
    except OverrideError as error:
        raise CommandFailed(str(error)) from error
    for warning in overrides.warnings:
        print(f"carfs: {warning}", file=sys.stderr)
    for line in overrides.lines(all=all_, default=default):
        print(line)


@command(epilog=example("carfs worker sched-diag | jq '.SchedInfo.Requests[].WaitsFor'"))
@click.option("--force-sched", is_flag=True, hidden=True, help="As in Lotus; changes nothing.")
def sched_diag(force_sched: bool) -> None:
    """Print the queue in the JSON of Lotus' SealingSchedDiag."""
    emit_json(call("Filecoin.SealingSchedDiag", {"DoSched": force_sched}))


def named(found: Json, id: str, what: str) -> Json:
    """The one of a list whose ID is this or begins with it; raises CommandFailed."""
    fitting = [one for one in found if one["ID"].startswith(id)] if id else []
    exact = [one for one in fitting if one["ID"] == id]
    if len(exact or fitting) == 1:
        return (exact or fitting)[0]
    if not fitting:
        raise CommandFailed(f"there is no {what} with the ID {shown(id)!r}", Exit.NOT_FOUND)
    raise CommandFailed(f"{len(fitting)} {what}s have IDs that begin with {shown(id)!r}; give more of it")
