"""`carfs top`: what the agent does, again and again.

A thread follows the agent, and finds it again when it was away; the screen, the keyboard and Ctrl-C are the main
thread's, so that `q` works whatever the agent does. rich draws; where there is no terminal, one plain page is printed.
"""

from __future__ import annotations

import os
import select
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import click

from agent.cli.bars import Line, takes_blocks
from agent.cli.calls import call, stream
from agent.cli.command import command, example, json_option
from agent.cli.exits import AgentRefused, AgentUnreachable, ended_by_signals
from agent.cli.load import text_of
from agent.cli.output import color_option, emit_json
from agent.cli.top_page import View, page

if TYPE_CHECKING:
    from rich.text import Text

Json = Any  # any value that JSON can carry

AWAY = "agent not reachable; waiting"
RETRY_S = 1.0
KEY_WAIT_S = 0.2  # between two looks at the size of the terminal
STATUS_INTERVAL_S = 10.0  # counting the shards takes the agent some time
TASKS_SHOWN = 200
PLAIN_WIDTH = 110
_END_KEYS = frozenset("qQ\x03\x04")  # Ctrl-C and Ctrl-D, should the terminal pass them


@command(epilog=example("carfs top", "carfs top --once", "carfs top --interval 5"))
@click.option("--interval", type=click.FloatRange(0.1, 3600), default=1.0, show_default=True, metavar="SECONDS",
              help="Between two pages.")  # fmt: skip
@click.option("--once", is_flag=True, help="Print one page, as where there is no terminal.")
@color_option
@json_option
def top(interval: float, once: bool, color: bool, as_json: bool) -> None:
    """Show limits, workers and tasks on the screen until `q` or Ctrl-C: how much memory is left and under which limit,
    what runs, and what waits for what.

    It goes on when the agent is restarted.
    """
    if as_json:
        emit_json(_watched_once())
    elif once or not sys.stdout.isatty():
        found = _watched_once()
        view = View(call("Carfs.Status"), found["Limits"], found["Tasks"])
        for line in page(view, PLAIN_WIDTH, None, plain=not takes_blocks()):
            print(text_of(line, color=color))
    else:
        with ended_by_signals(), suppress(KeyboardInterrupt):
            _show(interval, color=color)


def _watched_once() -> Json:
    values = stream("Carfs.WatchTasks", {"Limit": TASKS_SHOWN})
    try:
        return next(values)
    finally:
        values.close()  # type: ignore[attr-defined]  # a generator, which closes its connection


@dataclass
class Latest:
    """What the thread has heard last; the thread writes, everybody reads."""

    interval_s: float
    view: View = field(default_factory=View)
    heard_s: float = 0.0
    status_s: float = float("-inf")

    def follow(self) -> None:
        """For ever: hears of the agent, and waits for it while it is away."""
        while True:
            try:
                self._follow()
                problem = AWAY
            except AgentUnreachable:
                problem = AWAY
            except AgentRefused as error:
                problem = str(error)
            self.view, self.status_s = replace(self.view, problem=problem), float("-inf")
            time.sleep(RETRY_S)

    def _follow(self) -> None:
        for found in stream("Carfs.WatchTasks", {"Interval": self.interval_s, "Limit": TASKS_SHOWN}):
            status = self.view.status
            if time.monotonic() - self.status_s >= STATUS_INTERVAL_S:
                status, self.status_s = call("Carfs.Status"), time.monotonic()
            self.view = View(status, found["Limits"], found["Tasks"])
            self.heard_s = time.monotonic()

    def now(self) -> View:
        """With its age, less the time between two values."""
        since_s = time.monotonic() - self.heard_s if self.view.tasks is not None else 0.0
        return replace(self.view, age_s=max(0.0, since_s - self.interval_s))


def _show(interval_s: float, *, color: bool) -> None:
    from rich.console import Console, Group
    from rich.live import Live

    latest = Latest(interval_s)
    threading.Thread(target=latest.follow, daemon=True).start()
    console = Console(no_color=not color, highlight=False)
    plain = not takes_blocks()
    with _keys() as wait_key, Live(console=console, screen=True, auto_refresh=False) as live:
        drawn: tuple[View, tuple[int, int]] | None = None
        while True:
            view, size = latest.now(), (console.width, console.height)
            rounded = replace(view, age_s=float(int(view.age_s)))
            if (rounded, size) != drawn:
                drawn = (rounded, size)
                lines = page(rounded, *size, plain=plain)
                live.update(Group(*(_rich(line) for line in lines)), refresh=True)
            if wait_key(KEY_WAIT_S) in _END_KEYS:
                return


def _rich(line: Line) -> Text:
    from rich.text import Text

    return Text.assemble(*((word.text, word.color) for word in line), no_wrap=True, overflow="crop")


def _no_key(seconds: float) -> str:
    time.sleep(seconds)
    return ""


@contextmanager
def _keys() -> Iterator[Callable[[float], str]]:
    """Gives a function that waits for a key for so many seconds; "" if none came. The terminal echoes nothing
    meanwhile, and is as it was afterwards."""
    if not sys.stdin.isatty():
        yield _no_key
        return
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)

    def wait(seconds: float) -> str:
        ready, _, _ = select.select([descriptor], [], [], seconds)
        return os.read(descriptor, 1).decode("latin-1") if ready else ""

    try:
        tty.setcbreak(descriptor)
        yield wait
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
