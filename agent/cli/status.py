"""`carfs status`: what the agent does now."""

from __future__ import annotations

from typing import Any

from agent.cli.calls import call, shown
from agent.cli.command import command, example, json_option
from agent.cli.output import emit_json, size_text


@command(epilog=example("carfs status", "carfs status --json | jq .Shards"))
@json_option
def status(as_json: bool) -> None:
    """Show what the agent does now: shards by state, indexing, workers, who holds leases, memory."""
    found = call("Carfs.Status")
    if as_json:
        emit_json(found)
    else:
        print("\n".join(_lines(found)))


def _lines(found: dict[str, Any]) -> list[str]:  # Any: JSON, as Carfs.Status documents it
    workers = found["Workers"]
    memory, uptime = size_text(found["MemoryBytes"]), _duration_text(found["UptimeSeconds"])
    shards = [f"{count} {state.removeprefix('ShardState')}" for state, count in found["Shards"].items()]
    lines = [
        f"agent     {found['Version']}, process {found['Pid']}, up {uptime}, {memory}, state in {found['Path']}",
        f"shards    {', '.join(shards) or 'none'}",
        f"workers   {workers['Busy']} of {workers['Limit']} busy, {workers['Waiting']} tasks wait",
    ]
    inverted = found["InvertedIndex"]
    lines.append(
        f"lookup    {inverted['Entries']} blocks of {inverted['Shards']} shards, {inverted['Pending']} shards wait"
        + (f": {shown(inverted['Problem'])}" if inverted["Problem"] else "")
    )
    if found["Errors"]:
        lines.append(f"errors    {', '.join(f'{count} {name}' for name, count in found['Errors'].items())}")
    if found["Addresses"]:
        lines.append(f"listens   {', '.join(found['Addresses'])}, for clients with a token")
    lines += [
        f"indexing  {shown(one['Key'])}: {size_text(one['Done'])} of {size_text(one['Total'])}"
        for one in found["Indexing"]
    ]
    lines += [f"client    {one['Client']}: leases {one['Leases']}" for one in found["Clients"]]
    return lines


def _duration_text(seconds: float) -> str:
    minutes, hours, days = int(seconds) // 60, int(seconds) // 3600, int(seconds) // 86400
    if days:
        return f"{days} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min {int(seconds) % 60} s" if minutes else f"{int(seconds)} s"
