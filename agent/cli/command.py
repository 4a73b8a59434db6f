"""How commands are declared: groups that import a command when it is run, shared options, examples in help.

`carfs --help` must not pay for trio, numpy or multiformats, so groups hold strings, and the help of a command
stands in the table beside them.  `agent/cli` and `fusefs/command.py` build their commands from here.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

CommandTable = Mapping[str, tuple[str, str]]
"""Name of a command -> ("module:attribute", help in one line), in the order in which help shows them."""

SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
_Function = TypeVar("_Function", bound=Callable[..., object])


class LazyGroup(click.Group):
    """A group whose commands are imported when they are looked up, not when they are listed."""

    def __init__(self, *args: Any, table: CommandTable, **kwargs: Any) -> None:  # click's own loose signature
        super().__init__(*args, **kwargs)
        self.table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.table:
            return None
        module, _, attribute = self.table[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{self.table[cmd_name][0]} is not a click command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in self.table.items()])


def group(table: CommandTable, *, epilog: str) -> Callable[[Callable[[], None]], click.Group]:
    """Decorator: a lazy group over `table`, named and described by the function below it."""

    def decorate(function: Callable[[], None]) -> click.Group:
        made = click.group(cls=LazyGroup, table=table, epilog=epilog, context_settings=SETTINGS)(function)
        assert isinstance(made, click.Group)
        return made

    return decorate


def command(*, epilog: str) -> Callable[[Callable[..., object]], click.Command]:
    """Decorator: a command of ours; `epilog` comes from `example`, since every command shows one."""
    return click.command(epilog=epilog, context_settings=SETTINGS)


def example(*lines: str) -> str:
    """The end of a command's help: shell lines, kept as they are (`\\b` stops click from refilling)."""
    title = "Example:" if len(lines) == 1 else "Examples:"
    return "\n".join(["\b", title, *(f"  $ {line}" for line in lines)])


def json_option(function: _Function) -> _Function:
    """Adds `--json`, for every command that prints data."""
    return click.option("as_json", "--json", is_flag=True, help="Print JSON instead of text.")(function)


def quiet_option(function: _Function) -> _Function:
    """Adds `--quiet`, for every command that can last; it goes to `progress.progress`."""
    return click.option("quiet", "-q", "--quiet", is_flag=True, help="Show no progress.")(function)
