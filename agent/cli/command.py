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

Aliases = Mapping[str, str]
"""Another name of a command -> its name."""

SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
_Function = TypeVar("_Function", bound=Callable[..., object])


class LazyGroup(click.Group):
    """A group whose commands are imported when they are looked up, not when they are listed."""

    def __init__(
        self,
        *args: Any,
        table: CommandTable,
        aliases: Aliases | None = None,
        implied: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:  # click's own loose signature
        """`implied`: options that say which command is meant where the arguments begin with an option."""
        super().__init__(*args, **kwargs)
        self.table = table
        self.aliases = aliases or {}
        self.implied = implied or {}

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0].startswith("-"):
            given = {argument.partition("=")[0] for argument in args}
            args = [*(command for option, command in self.implied.items() if option in given), *args]
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        cmd_name = self.aliases.get(cmd_name, cmd_name)
        if cmd_name not in self.table:
            return None
        module, _, attribute = self.table[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{self.table[cmd_name][0]} is not a click command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(self._names(name), summary) for name, (_, summary) in self.table.items()])

    def _names(self, name: str) -> str:
        return ", ".join([name, *(alias for alias, of in self.aliases.items() if of == name)])


class CommandWithActions(click.Command):
    """A command that does something else where its first argument is the name of one of its `actions`.

    go-car's tool has two such: `index CAR` and `index create CAR`.
    """

    def __init__(self, *args: Any, actions: Mapping[str, click.Command], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.actions = actions

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        if args and (action := self.actions.get(args[0])):
            return action.make_context(f"{info_name} {args[0]}", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


def group(
    table: CommandTable,
    *,
    epilog: str,
    aliases: Aliases | None = None,
    implied: Mapping[str, str] | None = None,
) -> Callable[[Callable[[], None]], click.Group]:
    """Decorator: a lazy group over `table`, named and described by the function below it."""

    def decorate(function: Callable[[], None]) -> click.Group:
        made = click.group(
            cls=LazyGroup,
            table=table,
            aliases=aliases,
            implied=implied,
            epilog=epilog,
            context_settings=SETTINGS,
        )(function)
        assert isinstance(made, click.Group)
        return made

    return decorate


def command(
    *, epilog: str, actions: Mapping[str, click.Command] | None = None
) -> Callable[[Callable[..., object]], click.Command]:
    """Decorator: a command of ours; `epilog` comes from `example`, since every command shows one."""
    if actions is None:
        return click.command(epilog=epilog, context_settings=SETTINGS)
    return click.command(cls=CommandWithActions, actions=actions, epilog=epilog, context_settings=SETTINGS)


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
