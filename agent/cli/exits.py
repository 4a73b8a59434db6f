"""Exit codes (docs/commands.md), and the one place where an exception becomes one and a line on stderr.

Commands raise; they never print errors or call `sys.exit`.  A command that is done but not well (say, a
verification that found damage) returns an `Exit`.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from enum import IntEnum

import click


class Exit(IntEnum):
    """Exit codes of every command; 130 and 141 are what a shell shows for SIGINT and SIGPIPE."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    REFUSED = 4
    CORRUPT = 5
    UNREACHABLE = 6
    INTERRUPTED = 128 + signal.SIGINT
    BROKEN_PIPE = 128 + signal.SIGPIPE


class CommandFailed(Exception):
    """A command could not do its work: `str()` is the line the user sees, `code` the exit code."""

    code = Exit.FAILED

    def __init__(self, message: str, code: Exit | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code


class AgentUnreachable(CommandFailed):
    """Nothing answers on the agent's socket, or what answered broke off."""

    code = Exit.UNREACHABLE


EXIT_BY_RPC_CLASS = {
    "not-found": Exit.NOT_FOUND,
    "gone": Exit.NOT_FOUND,
    "exists": Exit.REFUSED,
    "busy": Exit.REFUSED,
    "denied": Exit.REFUSED,
    "corrupt": Exit.CORRUPT,
    "invalid": Exit.USAGE,
    "no-space": Exit.FAILED,
    "cancelled": Exit.FAILED,
    "bug": Exit.FAILED,
}


class AgentRefused(CommandFailed):
    """The agent answered with an error; `error_class` is the `class` in its data."""

    def __init__(self, message: str, error_class: str) -> None:
        super().__init__(message, EXIT_BY_RPC_CLASS.get(error_class, Exit.FAILED))
        self.error_class = error_class


def run_to_exit_code(run: Callable[[], object]) -> int:
    """Runs a command; gives its exit code, after one line on stderr where it failed."""
    try:
        result = run()
        sys.stdout.flush()  # here, where a closed pipe is still ours to handle
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException as error:
        return _report(_sole(error))
    return int(result) if isinstance(result, int) else Exit.DONE


def _sole(error: BaseException) -> BaseException:
    """The exception inside groups of one, as trio's nurseries raise them; a Ctrl-C in any group wins."""
    while isinstance(error, BaseExceptionGroup):
        if error.subgroup(KeyboardInterrupt) is not None:
            return KeyboardInterrupt()
        if len(error.exceptions) != 1:
            return error
        error = error.exceptions[0]
    return error


def _report(error: BaseException) -> int:
    match error:
        case KeyboardInterrupt() | click.exceptions.Abort():
            _drop_output()
            return Exit.INTERRUPTED
        case BrokenPipeError():
            _drop_output()
            return Exit.BROKEN_PIPE
        case click.exceptions.Exit():
            return error.exit_code
        case click.UsageError():
            return _say_usage(error)
        case click.ClickException():
            return _say(error.format_message(), Exit(error.exit_code))
        case CommandFailed():
            return _say(str(error), error.code)
    code = code_of(error)
    if code is None:
        traceback.print_exception(error)
        return _say(f"internal error, please report the lines above: {error!r}", Exit.FAILED)
    return _say(_os_error_text(error) if isinstance(error, OSError) else str(error), code)


def code_of(error: BaseException) -> Exit | None:
    """The exit code for an error of the system or of data, None for one that nobody foresaw."""
    if isinstance(error, OSError):
        return Exit.NOT_FOUND if isinstance(error, FileNotFoundError) else Exit.FAILED
    from carlib.errors import BlockNotFound, CarError, NotUnixFs  # late: only a failing command pays
    from carlib.unixfs import NoSuchEntry

    match error:
        case BlockNotFound() | NoSuchEntry():
            return Exit.NOT_FOUND
        case NotUnixFs():
            return Exit.FAILED
        case CarError():
            return Exit.CORRUPT
    return None


def _os_error_text(error: OSError) -> str:
    what = error.strerror or str(error) or type(error).__name__
    return f"{os.fsdecode(error.filename)}: {what}" if isinstance(error.filename, str | bytes) else what


def _say(message: str, code: Exit) -> int:
    print(f"carfs: {message}", file=sys.stderr)
    return code


def _say_usage(error: click.UsageError) -> int:
    if error.ctx is not None:
        print(error.ctx.get_usage(), file=sys.stderr)
        print(f"Try '{error.ctx.command_path} --help' for help.", file=sys.stderr)
    return _say(error.format_message(), Exit.USAGE)


def _drop_output() -> None:
    """Points stdout at nothing, so that the interpreter's last flush cannot complain about a closed pipe."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):  # no real stdout, as under a test's capture
        pass
