"""`carfs config …`: what is configured, by what, and what it means; asks no agent."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.cli.command import CommandTable, command, example, group, json_option
from agent.cli.exits import CommandFailed, Exit
from agent.cli.output import emit_json, emit_table

if TYPE_CHECKING:
    from agent.config_keys import Key

COMMANDS: CommandTable = {
    "show": ("agent.cli.config:show", "Each key, what it is set to, and by what."),
    "explain": ("agent.cli.config:explain", "What a key means, and how to set it."),
    "check": ("agent.cli.config:check", "Whether the configuration makes sense."),
}
_file_option = click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    help="Configuration file.  [default: config.toml in $CARFS_PATH]",
)


@group(COMMANDS, epilog=example("carfs config show", "carfs config explain dagstore.max_concurrent_index"))
def config() -> None:
    """Show, explain and check the agent's configuration."""


@command(
    epilog=example(
        "carfs config show", "carfs config show --json | jq '.[] | select(.Origin != \"default\")'"
    )
)
@_file_option
@json_option
def show(config_file: Path | None, as_json: bool) -> None:
    """Show each key with its value and what has set it: the default, the file, or a variable of the environment."""
    found = _keys(config_file)
    if as_json:
        emit_json([_document(key) for key in found])
    else:
        emit_table(
            ("Key", "Value", "Set by"), [(key.name, json.dumps(key.value), key.origin) for key in found]
        )


@command(epilog=example("carfs config explain dagstore.recover_on_start"))
@click.argument("key")
@_file_option
@json_option
def explain(key: str, config_file: Path | None, as_json: bool) -> None:
    """Say what KEY (section.key) means, what it is set to, by what, and how to set it."""
    found = next((one for one in _keys(config_file) if one.name == key), None)
    if found is None:
        raise CommandFailed(f"there is no key {key!r}; `carfs config show` lists all", Exit.NOT_FOUND)
    if as_json:
        emit_json(_document(found))
        return
    section, _, name = found.name.partition(".")
    print(f"{found.name}: {found.meaning}")
    print(f"is {json.dumps(found.value)}, set by {found.origin}; by default {json.dumps(found.default)}")
    print(f"to set it, {name} = … under [{section}] in config.toml, or {found.variable}=… in the environment")


@command(epilog=example("carfs config check --config /etc/carfs.toml"))
@_file_option
def check(config_file: Path | None) -> None:
    """Check file and environment as the agent would at its start; says what is wrong, and where."""
    changed = [key.name for key in _keys(config_file) if key.origin != "default"]
    print(f"The configuration is good; set: {', '.join(changed) or 'nothing, all is as by default'}")


def _keys(config_file: Path | None) -> list[Key]:
    from agent import config_keys  # msgspec: 30 ms, for these commands alone
    from agent.config import ConfigError
    from agent.repository import NoHome, Repository

    try:
        path = config_file if config_file is not None else Repository.from_environment().config
        return list(config_keys.keys(path, required=config_file is not None, environ=os.environ))
    except (ConfigError, NoHome) as error:
        raise CommandFailed(str(error)) from error


def _document(key: Key) -> dict[str, object]:
    return {
        "Key": key.name,
        "Value": key.value,
        "Default": key.default,
        "Variable": key.variable,
        "Origin": key.origin,
        "Meaning": key.meaning,
    }
