"""How log lines look: for people with time and level; for the journal with a `<N>` prefix, which it understands."""

from __future__ import annotations

import logging
import sys
from typing import TextIO

from agent import systemd

_SYSLOG_LEVELS = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))


class LineFormatter(logging.Formatter):
    """A message is one line, whatever is in it: keys and file names may hold line ends and terminal controls."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  the library's name
        text = super().formatMessage(record)
        return "".join(
            char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
        )


class JournalFormatter(LineFormatter):
    """`<N>` before each line, tracebacks included; the journal has the time itself."""

    def __init__(self) -> None:
        super().__init__("%(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        number = next((number for level, number in _SYSLOG_LEVELS if record.levelno >= level), 7)
        return "\n".join(f"<{number}>{line}" for line in super().format(record).splitlines())


def set_up(level: str, stream: TextIO | None = None) -> None:
    """Sends the log of the whole process to `stream`, which is stderr if not given."""
    stream = stream or sys.stderr
    handler = logging.StreamHandler(stream)
    if systemd.is_journal(stream.fileno()):
        handler.setFormatter(JournalFormatter())
    else:
        handler.setFormatter(LineFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
