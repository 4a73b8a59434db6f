"""What several of the commands take: a key, a filter, how many at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

_Function = TypeVar("_Function", bound=Callable[..., object])

STATES = ("New", "Initializing", "Available", "Serving", "Recovering", "Errored")
CLASSES = ("gone", "corrupt", "busy", "no-space", "denied", "cancelled", "invalid", "bug")


def text_key(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """A key as JSON can carry it."""
    try:
        (value or "").encode()
    except UnicodeEncodeError:
        raise click.BadParameter("a shard key must be Unicode text") from None
    return value


key_argument = click.argument("key", callback=text_key)


def filter_options(function: _Function) -> _Function:
    """Adds `--prefix`, `--glob` and `--error-class`; they come as the first parts of what `filter_of` takes."""
    for option in (
        click.option("--error-class", "classes", type=click.Choice(CLASSES), multiple=True,
                     help="Only shards whose error is of this class; may be repeated."),
        click.option("--glob", default="", metavar="PATTERN", help="Only keys that match, as in a shell: 'a*'."),
        click.option("--prefix", default="", metavar="TEXT", help="Only keys that begin so."),
    ):  # fmt: skip
        function = option(function)
    return function


def filter_of(prefix: str, glob: str, classes: tuple[str, ...], **more: Any) -> dict[str, Any]:  # Any: JSON
    """The parameters of a call about shards; what is not given is left out."""
    found = {"Prefix": prefix, "Glob": glob, "ErrorClasses": list(classes), **more}
    return {name: value for name, value in found.items() if value}
