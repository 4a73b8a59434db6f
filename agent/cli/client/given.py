"""What commands take to name imports and data, and what these names mean to the agent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import click

from agent.cli.calls import call, shown
from agent.cli.exits import AgentRefused, CommandFailed, Exit

Json = Any  # any value that JSON can carry
_Function = TypeVar("_Function", bound=Callable[..., object])
_CID_BEGINNINGS = ("b", "B", "z", "Qm", "k", "K", "f", "F", "m", "u", "1")
"""Of CIDs in the usual bases; what is none of these is no CID for sure."""


def text(_ctx: click.Context, _param: click.Parameter, value: Any) -> Any:
    """A value, or several, that JSON can carry."""
    for one in value if isinstance(value, tuple) else [value or ""]:
        try:
            one.encode()
        except UnicodeEncodeError:
            raise click.BadParameter("the name of an import is Unicode text") from None
    return value


import_argument = click.argument("import_", metavar="IMPORT", callback=text)


def find_import(name: str, *, careful: bool = False) -> Json:
    """The record of the import that is meant; raises CommandFailed. To be `careful`, as what cannot be undone is,
    takes no beginnings of names, and of numbers and roots only long ones."""
    try:
        return call("Carfs.GetImport", {"Import": name})
    except AgentRefused as error:
        if error.error_class != "not-found" or not name:
            raise
        exact = error
    keys = ("ID", "Root") if careful else ("Name", "ID", "Root")
    is_enough = len(name) >= CAREFUL_LENGTH or not careful
    fitting = [
        one
        for one in call("Carfs.Imports")
        if is_enough and any(str(one[key] or "").startswith(name) for key in keys)
    ]
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        raise CommandFailed(f"there is no import {shown(name)!r}; `carfs client local` lists all", exact.code)
    raise CommandFailed(
        f"{len(fitting)} imports have names, numbers or roots that begin with {shown(name)!r}; give more of it",
        Exit.USAGE,
    )


CAREFUL_LENGTH = 8


class Data(NamedTuple):
    """A root, and a path below it as listings show it."""

    root: str
    path: str


def find_data(given: str) -> Data:
    """What "IMPORT/a/b", "CID/a/b" or "/ipfs/CID/a/b" is; raises CommandFailed."""
    head, _, path = given.removeprefix("/ipfs/").partition("/")
    if not head:
        raise CommandFailed("give the name of an import or a CID, and a path below it if need be", Exit.USAGE)
    try:
        record = call("Carfs.GetImport", {"Import": head})
    except AgentRefused as error:
        if error.error_class != "not-found":
            raise
        if head.startswith(_CID_BEGINNINGS) and _is_cid(head):
            return Data(head, path)
        record = find_import(head)
    if record["Root"] is None:
        why = f": {shown(record['Error'])}" if record["Error"] else " (yet)"
        raise CommandFailed(f"import {shown(record['Name'])} has no root{why}", Exit.REFUSED)
    return Data(record["Root"], path)


def _is_cid(given: str) -> bool:
    from carlib.cid import Cid  # 20 ms, for those commands that need it
    from carlib.errors import CarError

    try:
        Cid.parse(given)
    except CarError:
        return False
    return True


def absolute(path: str) -> str:
    """A path, taken from here, as the agent takes it: a `file:` URL where it is no text."""
    if not path:
        raise CommandFailed("an empty path", Exit.USAGE)
    whole = str(Path.cwd() / path)
    try:
        whole.encode()
    except UnicodeEncodeError:
        from agent.cli.dagstore.registering import absolute_url

        return absolute_url(path)
    return whole


def selector_option(function: _Function) -> _Function:
    """Adds `--data-selector`, many times."""
    return click.option(
        "--data-selector", "--datamodel-path-selector", "selectors", metavar="SELECTOR", multiple=True,
        help="An IPLD selector: JSON, or a text path such as /Links/0/Hash; may be repeated.",
    )(function)  # fmt: skip


def range_option(function: _Function) -> _Function:
    """Adds `--range`."""
    return click.option(
        "--range", "byte_range", metavar="FIRST:LAST", default="",
        help="Only these bytes of a file, both included; * is the end, negative numbers count from there.",
    )(function)  # fmt: skip
