"""`carfs status`: what the agent does now."""

from __future__ import annotations

from typing import Any

from agent.cli.bars import takes_blocks
from agent.cli.calls import call, shown
from agent.cli.command import command, example, json_option
from agent.cli.load import duration_text, limit_lines, task_lines, text_of
from agent.cli.output import color_option, counted, emit_json, seconds, size_text

Json = Any  # any value that JSON can carry

LINES_SHOWN = 10  # of a kind


@command(epilog=example("carfs status", "carfs status --json | jq .Shards"))
@color_option
@json_option
def status(color: bool, as_json: bool) -> None:
    """Show what the agent does now: shards by state, limits and what is left of them, tasks and what they wait for,
    verification, origins that fail, leases.
    """
    found = call("Carfs.Status")
    if as_json:
        emit_json(found)
    else:
        print("\n".join(_lines(found, color=color)))


def _lines(found: Json, *, color: bool) -> list[str]:
    workers = found["Workers"]
    memory, uptime = size_text(found["MemoryBytes"]), duration_text(found["UptimeSeconds"])
    shards = [f"{count} {state.removeprefix('ShardState')}" for state, count in found["Shards"].items()]
    imports = [f"{count} {state.removeprefix('ImportState')}" for state, count in found["Imports"].items()]
    lines = [
        f"agent     {found['Version']}, process {found['Pid']}, up {uptime}, {memory}, state in {found['Path']}",
        f"shards    {', '.join(shards) or 'none'}",
        *([f"imports   {', '.join(imports)}"] if imports else []),
        *_limits(found["Limits"], found["Tasks"], color=color),
        f"workers   {workers['Busy']} of {workers['Limit']} busy, {counted(workers['Waiting'], 'task')} waiting",
        *_tasks(found["Tasks"], color=color),
    ]
    lines += [_lookup(found["InvertedIndex"]), _copies(found["Transients"]), *_verification(found["Scrub"])]
    if found["Errors"]:
        lines.append(f"errors    {', '.join(f'{count} {name}' for name, count in found['Errors'].items())}")
    if found["Addresses"]:
        lines.append(f"listens   {', '.join(found['Addresses'])}, for clients with a token")
    lines += _some("indexing", [_progress("indexing", one) for one in found["Indexing"]])
    lines += _some("fetching", [_progress("fetching", one) for one in found["Fetching"]])
    lines += _some("failing", [_failing(one) for one in found["UnhealthyOrigins"]])
    lines += _some(
        "client", [f"client    {one['Client']}: leases {one['Leases']}" for one in found["Clients"]]
    )
    return lines


def _limits(limits: Json, tasks: Json, *, color: bool) -> list[str]:
    own = tasks["Workers"][0] if tasks["Workers"] else None
    lines = limit_lines(limits, own, plain=not takes_blocks())
    return [text_of(line, color=color) for line in lines]


def _tasks(tasks: Json, *, color: bool) -> list[str]:
    """The first tasks, and how many more there are; workers of other machines."""
    lines = [text_of(line, color=color) for line in task_lines(tasks)][:LINES_SHOWN]
    more = tasks["Running"] + tasks["Waiting"] - len(lines)
    if more > 0:
        lines.append(f"          and {counted(more, 'more task')} (carfs worker jobs has all)")
    away = len(tasks["Workers"]) - 1
    if away > 0:
        lines.append(f"workers   {counted(away, 'remote worker')} (carfs worker list has all)")
    return lines


def _progress(what: str, one: Json) -> str:
    amount = f"{size_text(one['Done'])} of {size_text(one['Total'])}" if one["Total"] else "not begun"
    return f"{what:9} {shown(one['Key'])}: {amount}"


def _some(what: str, lines: list[str]) -> list[str]:
    """The first lines of one kind, and how many more there are: there may be thousands."""
    more = len(lines) - LINES_SHOWN
    return [*lines[:LINES_SHOWN], f"{what:9} and {more} more (--json has all)"] if more > 1 else lines


def _lookup(inverted: Json) -> str:
    blocks, shards = counted(inverted["Entries"], "block"), counted(inverted["Shards"], "shard")
    waiting = f", {inverted['Pending']} waiting" if inverted["Pending"] else ""
    problem = f": {shown(inverted['Problem'])}" if inverted["Problem"] else ""
    return f"lookup    {blocks} of {shards}{waiting}{problem}"


def _copies(transients: Json) -> str:
    limit = f", {size_text(transients['LimitBytes'])} at most" if transients["LimitBytes"] else ""
    fetching = f", {counted(transients['Fetching'], 'request')} under way" if transients["Fetching"] else ""
    return f"copies    {size_text(transients['UsedBytes'])} of remote data{limit}{fetching}"


def _verification(scrub: Json) -> list[str]:
    if scrub is None:
        return []
    first = scrub["NextAt"]
    damaged = (
        f"; {counted(scrub['Damaged'], 'shard')} with bad blocks, see list-shards" if scrub["Damaged"] else ""
    )
    due = (
        f", {scrub['Overdue']} overdue"
        if scrub["Overdue"]
        else f", the next at {seconds(first)}"
        if first
        else ""
    )
    return [f"verify    {counted(scrub['Scheduled'], 'shard')} in the schedule{due}{damaged}"] + [
        f"verifying {shown(one['Key'])}: {size_text(one['Done'])} of {size_text(one['Total'])}, "
        f"depth {one['Depth']}, by {shown(one['By'])}"
        for one in scrub["Running"]
    ]


def _failing(origin: Json) -> str:
    times = f"{origin['Failures']} times in a row" if origin["Failures"] > 1 else "once"
    alone = "" if origin["State"] == "closed" else f"; left alone for {origin['RetryInSeconds']:.0f} s"
    return f"failing   {shown(origin['Origin'])}: {times}{alone}"
