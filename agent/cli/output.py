"""What commands print on stdout: JSON for programs, tables and sizes for people; rich only on a terminal."""

from __future__ import annotations

import codecs
import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeVar

import click

_Function = TypeVar("_Function", bound=Callable[..., object])
_ANSI_COLORS = {"red": 31, "green": 32, "yellow": 33, "blue": 34}

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def emit_json(value: object) -> None:
    """Prints one JSON value, indented, as `--json` promises."""
    print(_json(value, 2))


def emit_json_line(value: object) -> None:
    """Prints one JSON value on one line, for lists that may be long."""
    print(_json(value, None))


def _json(value: object, indent: int | None) -> str:
    """JSON that standard output can hold: names may have bytes that are no text, and a terminal no UTF-8."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(value, indent=indent)
    return text


def replace_closed_streams() -> None:
    """Puts something in the place of standard streams that were closed (`<&-`), which Python leaves out.

    The next file that is opened would get their numbers.  Reading and writing fail there, as they would have failed;
    what is said on stderr goes nowhere.
    """
    for name, flags, mode in (
        ("stdin", os.O_WRONLY, "r"),
        ("stdout", os.O_RDONLY, "w"),
        ("stderr", os.O_RDWR, "w"),
    ):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.open(os.devnull, flags), mode, encoding="utf-8"))  # noqa: PTH123, SIM115


def take_any_name() -> None:
    """Lets standard output take names that are not in its encoding: as they are where that is UTF-8, else as `\\x…`."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        is_utf8 = codecs.lookup(sys.stdout.encoding).name == "utf-8"
        sys.stdout.reconfigure(errors="surrogateescape" if is_utf8 else "backslashreplace")


def printable(name: bytes | str) -> str:
    """A name from a CAR as text that cannot steer a terminal: what is not printable UTF-8 is shown as `\\x…`."""
    raw = name if isinstance(name, bytes) else name.encode("utf-8", "surrogateescape")
    text = raw.decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


class Styled(NamedTuple):
    """A word that has a colour where there are colours; "" for none."""

    text: str
    color: str = ""

    def text_in(self, color: bool, *, width: int = 0) -> str:
        """The word, filled up to `width`, with the terminal's codes around it if `color`."""
        text = self.text.ljust(width)
        return f"\x1b[{_ANSI_COLORS[self.color]}m{text}\x1b[0m" if color and self.color else text


def color_option(function: _Function) -> _Function:
    """Adds `--color/--no-color`; where neither is given, a terminal has colours unless NO_COLOR is set."""

    def decided(_ctx: click.Context, _param: click.Parameter, given: bool | None) -> bool:
        return given if given is not None else sys.stdout.isatty() and not os.environ.get("NO_COLOR")

    return click.option(
        "--color/--no-color", default=None, callback=decided, help="Use colours.  [default: on a terminal]"
    )(function)


def emit_table(
    headings: Sequence[str], rows: Iterable[Sequence[object]], *, color: bool | None = None
) -> None:
    """Prints rows under headings: a rich table on a terminal, else columns with two spaces between them.

    A cell that is `Styled` has its colour if `color`; None: on a terminal."""
    cells = [[cell if isinstance(cell, Styled) else Styled(str(cell)) for cell in row] for row in rows]
    is_terminal = sys.stdout.isatty()
    if is_terminal and color is not False:
        _emit_rich(headings, cells)
        return
    table = [[Styled(heading.upper()) for heading in headings], *cells]
    widths = [max(len(cell.text) for cell in column) for column in zip(*table, strict=True)]
    for row in table:
        texts = [cell.text_in(bool(color), width=width) for cell, width in zip(row, widths, strict=True)]
        print("  ".join(texts).rstrip())


def _emit_rich(headings: Sequence[str], rows: Iterable[Sequence[Styled]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(Text(*cell) for cell in row))  # Text: a key such as "[bold]" is data, not markup
    Console().print(table)


def size_text(size_bytes: float) -> str:
    """A size for people: "0 B", "1023 B", "1.5 KiB", "12 GiB"."""
    size, unit = float(size_bytes), _UNITS[0]
    for unit in _UNITS:
        if size < 1023.95 or unit == _UNITS[-1]:
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "B" or size >= 99.95 else f"{size:.1f} {unit}"


def seconds(time: str) -> str:
    """A time for people: RFC 3339 to the second."""
    return f"{time.partition('.')[0]}Z" if "." in time else time


def counted(count: int, what: str) -> str:
    """So many of something: "1 shard", "2 shards"."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
