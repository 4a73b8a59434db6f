"""The file that a command writes, or `-` for standard output.

A file is replaced when its successor is complete; what goes into a pipe has gone.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import BinaryIO, TypeVar

import click

from agent.cli.exits import CommandFailed, Exit
from carlib.durable import replacing

STDOUT = "-"
_Function = TypeVar("_Function", bound=Callable[..., object])


def output_option(function: _Function) -> _Function:
    """Adds `-o`, by all the names that go-car's commands have for it."""
    return click.option(
        "-o", "-f", "--output", metavar="FILE", help="Write to this file; - is standard output."
    )(function)


def output_argument(function: _Function) -> _Function:
    """Adds the output as a last argument, as most of go-car's commands take it."""
    return click.argument("out", metavar="[OUT]", required=False)(function)


def version_option(default: int) -> Callable[[_Function], _Function]:
    """Adds `--version` of the CAR that is written."""
    return click.option(
        "--version", type=click.Choice(["1", "2"]), default=str(default), show_default=True,
        callback=lambda _ctx, _param, value: int(value), help="Version of the CAR that is written.",
    )  # fmt: skip


def only(*outputs: str | None, default: str | None = None) -> str:
    """The one output that was given, as an argument or an option; UsageError for two, and for none without default."""
    named = [output for output in outputs if output is not None]
    if len(named) > 1:
        raise click.UsageError(f"two outputs are given, {named[0]} and {named[1]}")
    if not named and default is None:
        raise click.UsageError("say where to write to: -o FILE")
    return named[0] if named else str(default)


def car_target(output: str, version: int) -> Path | BinaryIO:
    """Where carlib's writers write a CAR to; UsageError for a CARv2 into a pipe, whose header would come too late."""
    if output != STDOUT:
        return Path(output)
    if version != 1:
        raise click.UsageError(
            "the header of a CARv2 is written last, so it cannot go to standard output; write to a file with -o FILE, "
            "or write a CARv1 with --version 1"
        )
    return stdout()


def stream_target(output: str) -> Path | BinaryIO:
    """The same for what is written from its first byte to its last."""
    return stdout() if output == STDOUT else Path(output)


def stdout() -> BinaryIO:
    """Standard output for data that no terminal should see."""
    if sys.stdout.isatty():
        raise CommandFailed(
            "that is binary data, not for a terminal; write to a file with -o FILE", Exit.USAGE
        )
    return sys.stdout.buffer


@contextmanager
def opened(output: str, *, text: bool = False) -> Iterator[BinaryIO]:
    """The output to write to; `text`: a terminal may see it."""
    if output == STDOUT:
        yield sys.stdout.buffer if text else stdout()
    else:
        with replacing(Path(output)) as file:
            yield file


@contextmanager
def printing_to(output: str) -> Iterator[None]:
    """Lets `print` write to the output."""
    if output == STDOUT:
        yield
        return
    with replacing(Path(output)) as file:
        text = io.TextIOWrapper(file, "utf-8", "surrogateescape", write_through=True)
        with redirect_stdout(text):
            yield
        text.detach()
