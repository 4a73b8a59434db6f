"""`carfs rpc …`: the agent's interface by hand."""

from __future__ import annotations

import json
from typing import Any

import click

from agent.cli.calls import call, stream
from agent.cli.command import CommandTable, command, example, group
from agent.cli.exits import CommandFailed, Exit
from agent.cli.output import emit_json, emit_json_line

COMMANDS: CommandTable = {
    "schema": ("agent.cli.rpc:schema", "Print the OpenRPC document of all methods."),
    "call": ("agent.cli.rpc:call_method", "Call a method and print its result."),
    "stream": ("agent.cli.rpc:stream_method", "Call a method that gives a stream and print its values."),
}

_method_argument = click.argument("method")
_params_argument = click.argument("params", default="[]")


@group(COMMANDS, epilog=example('carfs rpc call Carfs.CountShards \'{"States": ["Errored"]}\''))
def rpc() -> None:
    """Call methods of the agent; see docs/agent.md."""


@command(epilog=example("carfs rpc schema | jq -r '.methods[].name'"))
def schema() -> None:
    """Print the OpenRPC document of all methods: parameters, results, permissions, examples."""
    emit_json(call("rpc.discover"))


@command(epilog=example("carfs rpc call Filecoin.Version", "carfs rpc call Carfs.ShardInfo '[\"photos\"]'"))
@_method_argument
@_params_argument
def call_method(method: str, params: str) -> None:
    """Call METHOD with PARAMS (an array or an object of JSON) and print its result."""
    emit_json(call(method, _parsed(params), timeout_s=None))


@command(epilog=example('carfs rpc stream Carfs.WalkShards \'{"Prefix": "p"}\''))
@_method_argument
@_params_argument
def stream_method(method: str, params: str) -> None:
    """Call METHOD with PARAMS and print each value of its stream on a line, until it ends."""
    for value in stream(method, _parsed(params)):
        emit_json_line(value)


def _parsed(text: str) -> Any:  # Any: JSON
    try:
        params = json.loads(text)
    except ValueError as error:
        raise CommandFailed(f"PARAMS is not JSON: {error}", Exit.USAGE) from error
    if not isinstance(params, list | dict):
        raise CommandFailed("PARAMS is neither an array nor an object", Exit.USAGE)
    return params
