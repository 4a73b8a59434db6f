"""The frame of the command line: lazy loading, help, exit codes, errors in one line."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from agent.cli.command import CommandWithActions, LazyGroup
from agent.cli.exits import AgentRefused, AgentUnreachable, CommandFailed, Exit, run_to_exit_code
from agent.cli.main import cli, main
from carlib.errors import CarError

HEAVY = (
    "trio",
    "numpy",
    "multiformats",
    "rich",
    "starlette",
    "anycorn",
    "pyfuse3",
    "httpcore2",
    "obstore",
    "sqlite3",
)


def walk(command: click.Command, name: str = "carfs") -> Iterator[tuple[str, click.Command]]:
    """Every command below `command` with the words that call it."""
    yield name, command
    if isinstance(command, LazyGroup):
        for child in command.table:
            found = command.get_command(click.Context(command), child)
            assert found is not None
            yield from walk(found, f"{name} {child}")
    if isinstance(command, CommandWithActions):
        for child, found in command.actions.items():
            yield f"{name} {child}", found


def raising(error: BaseException) -> int:
    def run() -> None:
        raise error

    return run_to_exit_code(run)


@pytest.mark.parametrize(
    "arguments", [["--help"], ["car", "--help"], ["dagstore", "--help"], ["status"]], ids=" ".join
)
def test_nothing_heavy_is_imported_for_help_or_an_rpc_call(arguments: list[str]) -> None:
    program = f"import sys; from agent.cli.main import main; main({arguments!r}); print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert set(HEAVY) & set(run.stdout.splitlines()[-1].split()) == set()


def test_every_command_says_what_it_does_and_shows_an_example() -> None:
    for name, command in walk(cli):
        assert command.help, name
        assert f"$ {name}" in (command.epilog or "") or (
            name == "carfs" and "$ carfs " in (command.epilog or "")
        ), name


def test_help_of_every_command_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    for name, _ in walk(cli):
        assert main([*name.split()[1:], "--help"]) == Exit.DONE
        assert "Example" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (CommandFailed("it broke"), 1, "carfs: it broke"),
        (
            FileNotFoundError(errno.ENOENT, "No such file or directory", "x.car"),
            3,
            "carfs: x.car: No such file or directory",
        ),
        (PermissionError(errno.EACCES, "Permission denied", b"x.car"), 1, "carfs: x.car: Permission denied"),
        (AgentRefused("shard a is in use", "busy"), 4, "carfs: shard a is in use"),
        (AgentRefused("no shard a", "not-found"), 3, "carfs: no shard a"),
        (CarError("no such version", source="x.car", offset=7), 5, "carfs: x.car: offset 7: no such version"),
        (AgentUnreachable("nothing answers"), 6, "carfs: nothing answers"),
        (ExceptionGroup("nursery", [CommandFailed("it broke")]), 1, "carfs: it broke"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_an_error_is_one_line_and_an_exit_code(
    error: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (raising(error), capsys.readouterr().err) == (code, line + "\n")


def test_a_bug_shows_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert raising(ZeroDivisionError("division by zero")) == Exit.FAILED
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert shown.splitlines()[-1].startswith("carfs: internal error")


def test_usage_errors_point_to_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nonsense"]) == Exit.USAGE
    assert capsys.readouterr().err.splitlines()[-2:] == [
        "Try 'carfs --help' for help.",
        "carfs: No such command 'nonsense'.",
    ]


def test_interrupts_are_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    assert raising(KeyboardInterrupt()) == 128 + signal.SIGINT
    assert raising(BaseExceptionGroup("nursery", [KeyboardInterrupt(), ValueError()])) == 128 + signal.SIGINT
    assert capsys.readouterr().err == ""


def test_a_reader_that_goes_away_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    run = subprocess.run(
        [sys.executable, "-m", "agent.cli.main", "--help"], stdout=writing, stderr=subprocess.PIPE
    )
    os.close(writing)
    assert (run.returncode, run.stderr) == (128 + signal.SIGPIPE, b"")


def test_version_is_the_packages() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "agent.cli.main", "--version"], capture_output=True, text=True
    )
    assert run.stdout.startswith("carfs 0.")


def test_ctrl_c_in_the_middle_of_a_command_is_quiet() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "agent.cli.main", "car", "ls", "-"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    process.stdin.write(bytes(1 << 20))  # more than a pipe holds, so the command is reading when this returns
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (Exit.INTERRUPTED, b"")
