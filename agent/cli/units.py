"""`carfs systemd`: agent, mounts and workers as units of this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from agent.cli.command import CommandTable, command, example, group
from agent.cli.exits import CommandFailed, Exit
from agent.units import AGENT, SOCKET, NoUnits, UnitFile, unit_files

STATE = "/var/lib/carfs"

COMMANDS: CommandTable = {
    "install": (
        "agent.cli.units:install",
        "Write the unit files and start the agent, and a mount of its tree.",
    ),
    "status": (
        "agent.cli.units:status",
        "Say whether the unit files are those of this version, and how the units are.",
    ),
    "uninstall": ("agent.cli.units:uninstall", "End the units and remove their files; the state stays."),
}

root_option = click.option(
    "--root", type=click.Path(file_okay=False, path_type=Path), default=Path("/"), show_default=True,
    help="Below which /etc is; another one than / has its files written and nothing started.",
)  # fmt: skip


@group(COMMANDS, epilog=example("carfs systemd install --mount /mnt/carfs"))
def systemd() -> None:
    """Run agent, mounts and workers under systemd, as units that come with carfs."""


@command(epilog=example("carfs systemd install", "carfs systemd install --mount /mnt/carfs"))
@click.option("--mount", "mountpoint", type=click.Path(path_type=Path), metavar="PATH",
              help="Mount the agent's tree there, too, now and at each boot.")  # fmt: skip
@click.option("--no-start", is_flag=True, help="Write the files, and start nothing.")
@root_option
def install(mountpoint: Path | None, no_start: bool, root: Path) -> None:
    """Write the unit files, make the user `carfs`, and start the agent, now and at each boot.

    Its state is in /var/lib/carfs, its configuration in config.toml there. What you change goes into drop-ins
    (`systemctl edit carfs-agent`), which stay when this is done again by another version.
    """
    if mountpoint is not None and not mountpoint.is_absolute():
        raise click.UsageError(f"--mount is an absolute path, not {mountpoint}")
    program = _program()
    if root == Path("/"):
        _refuse_unreadable(program)
    for one in _files(program):
        target = one.below(root)
        with _refusals():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(one.text)
        print(f"wrote {target}")
    if root != Path("/"):
        return
    _run("systemd-sysusers", "/etc/sysusers.d/carfs.conf")
    _run("systemd-tmpfiles", "--create", "/etc/tmpfiles.d/carfs.conf")
    _run("systemctl", "daemon-reload")
    if no_start:
        print(f"to start the agent: systemctl enable --now {SOCKET} {AGENT}")
        return
    units = [SOCKET, AGENT, *([] if mountpoint is None else [_mount_unit(mountpoint)])]
    _run("systemctl", "enable", "--now", *units)
    for unit in units:
        print(f"started {unit}")
    print(f"try: CARFS_PATH={STATE} carfs status")


@command(epilog=example("carfs systemd status"))
@root_option
def status(root: Path) -> int:
    """Say which unit files are there, whether they are those of this version, and how the units are.

    The exit code is 3 where one is missing, and 1 where one is of another version.
    """
    worst = Exit.DONE
    for one in _files(_program()):
        same = one.is_in(root)
        if same is None:
            worst = Exit.NOT_FOUND
        elif not same and worst is Exit.DONE:
            worst = Exit.FAILED
        state = "missing" if same is None else "as here" if same else "another version"
        print(f"{one.below(root)}: {state}")
    if root == Path("/") and shutil.which("systemctl"):
        subprocess.run(["systemctl", "--no-pager", "list-units", "--all", "carfs*"], check=False)
    return worst


@command(epilog=example("carfs systemd uninstall", "carfs systemd uninstall --purge"))
@click.option("--purge", is_flag=True, help=f"Remove the state, too: all that is in {STATE}.")
@root_option
def uninstall(purge: bool, root: Path) -> None:
    """End agent, mounts and workers, and remove the unit files. The state stays, unless it is purged."""
    if root == Path("/") and shutil.which("systemctl"):
        listed = subprocess.run(
            ["systemctl", "list-units", "--all", "--plain", "--no-legend", "--full", "carfs-*"],
            capture_output=True, text=True, check=False,
        ).stdout  # fmt: skip
        units = [line.split()[0] for line in listed.splitlines()]
        units = [unit for unit in units if unit.endswith((".service", ".socket")) and unit != AGENT]
        units.append(AGENT)  # mounts end before what they are of
        for unit in units:
            subprocess.run(["systemctl", "disable", "--now", "--quiet", unit], check=False)
    for one in _files(_program()):
        target = one.below(root)
        with _refusals():
            if target.exists():
                target.unlink()
                print(f"removed {target}")
    if root == Path("/"):
        _run("systemctl", "daemon-reload")
        if purge:
            with _refusals():
                shutil.rmtree(STATE)
            print(f"removed {STATE}")
        elif Path(STATE).exists():
            print(f"the state stays in {STATE}; --purge removes it")


def _mount_unit(mountpoint: Path) -> str:
    done = subprocess.run(
        ["systemd-escape", "--path", "--template=carfs-mount@.service", "--", str(mountpoint)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.strip()


def _program() -> Path:
    """The carfs that runs, as units are to start it; raises CommandFailed."""
    beside = Path(sys.executable).with_name("carfs")
    for path in (Path(sys.argv[0]), Path(shutil.which("carfs") or beside), beside):
        if path.name == "carfs" and path.is_absolute() and os.access(path, os.X_OK):
            return path
    raise CommandFailed("no program carfs is to be found that units could start", Exit.NOT_FOUND)


def _refuse_unreadable(program: Path) -> None:
    """The agent runs as a user of its own."""
    for path in (program, *program.resolve().parents):
        if not path.stat().st_mode & 0o001:
            hint = "install carfs where everybody may read, such as /opt or /usr/local"
            raise CommandFailed(f"{path}: the user carfs may not run what is there; {hint}", Exit.REFUSED)


def _files(program: Path) -> list[UnitFile]:
    try:
        return unit_files(program)
    except NoUnits as error:
        raise CommandFailed(str(error), Exit.NOT_FOUND) from None


def _run(*arguments: str) -> None:
    try:
        done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise CommandFailed(
            f"there is no {arguments[0]} here: this is no machine with systemd", Exit.FAILED
        ) from None
    if done.returncode:
        said = done.stderr.strip() or f"exit code {done.returncode}"
        raise CommandFailed(f"{' '.join(arguments)}: {said}", Exit.FAILED)


@contextmanager
def _refusals() -> Iterator[None]:
    """Errors of files as those of commands."""
    try:
        yield
    except PermissionError as error:
        raise CommandFailed(f"{error.filename}: {error.strerror}; this is for root", Exit.REFUSED) from None
    except OSError as error:
        raise CommandFailed(f"{error.filename}: {error.strerror}", Exit.FAILED) from None
