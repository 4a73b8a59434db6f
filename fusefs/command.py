"""`carfs mount`, `carfs umount` and `carfs up`, with their errors turned into exit codes."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.cli.command import command, example, quiet_option
from agent.cli.exits import AgentUnreachable, CommandFailed, Exit

if TYPE_CHECKING:
    from fusefs.agent_catalogue import AgentCatalogue
    from fusefs.daemon import Ready
    from fusefs.local_catalogue import LocalCatalogue

_PATH = click.Path(path_type=Path)


@command(
    epilog=example("carfs mount backup.car mnt && ls mnt", "carfs mount -f /mnt/carfs", "carfs umount mnt")
)
@click.argument("paths", metavar="[CAR]... MOUNTPOINT", nargs=-1, required=True, type=_PATH)
@click.option("-f", "--foreground", is_flag=True, help="Stay on the terminal; Ctrl-C unmounts.")
@click.option(
    "options",
    "-o",
    metavar="OPT[,OPT]",
    multiple=True,
    help="Mount options: allow_other, nonempty, noexec, …",
)
@click.option(
    "--log",
    metavar="FILE",
    type=_PATH,
    help="Where a background mount logs [~/.local/state/carfs/mount.log].",
)
@click.option(
    "deadline_s", "--deadline", metavar="SECONDS", type=click.FloatRange(0.1, 86400), default=30.0, show_default=True,
    help="How long a read may wait for data before it fails with ETIMEDOUT.",
)  # fmt: skip
@click.option(
    "settle_s", "--settle", metavar="SECONDS", type=click.FloatRange(0, 86400), default=10.0, show_default=True,
    help="How long a directory copied into imports/ must rest to be imported; 0: only mv imports it.",
)  # fmt: skip
@quiet_option
def mount(
    paths: tuple[Path, ...],
    foreground: bool,
    options: tuple[str, ...],
    log: Path | None,
    deadline_s: float,
    settle_s: float,
    quiet: bool,
) -> int:
    """Mount CAR files, or the agent's shards and imports where no CAR is named.

    One CAR with one root shows the root's content itself (and the rest under .carfs/, which is not listed);
    other CARs, and the agent's shards, are directories with roots/, blocks/, data.car and more.
    """
    from fusefs import daemon

    *cars, mountpoint = paths
    names = [name for option in options for name in option.split(",") if name]
    serve = partial(_serve, cars, mountpoint, names, deadline_s, settle_s, quiet)
    if foreground:
        serve(_ready)
        return Exit.DONE
    return daemon.detached(serve, (log or daemon.default_log()).absolute())


def _ready() -> None:
    """Tells systemd that the mount answers, if it is what has started us."""
    from agent import systemd

    systemd.notify("READY=1")


def _serve(
    cars: list[Path],
    mountpoint: Path,
    names: list[str],
    deadline_s: float,
    settle_s: float,
    quiet: bool,
    ready: Ready,
) -> None:
    """Everything from the look at the mountpoint to the end of the mount."""
    import trio

    from agent import logs
    from fusefs import mounting
    from fusefs.service import Mount

    logs.set_up("info")
    with _refusals():
        place = mounting.prepare(mountpoint, nonempty="nonempty" in names)
        source = str(cars[0]) if len(cars) == 1 else "carfs"
        options = mounting.fuse_options(names, source, writable=not cars)
        catalogue = _local(cars, quiet) if cars else _of_agent()
        served = Mount(catalogue, place, options, deadline_s=deadline_s, settle_s=settle_s)
        trio.run(partial(served.run, ready, of_agent=not cars))


def _local(cars: list[Path], quiet: bool) -> LocalCatalogue:
    from agent.cli.progress import Step, progress
    from fusefs.local_catalogue import LocalCatalogue, default_cache

    with contextlib.ExitStack() as bars:

        def bar(car: Path) -> Step:
            return bars.enter_context(progress(f"indexing {car.name}", quiet=quiet))

        catalogue = LocalCatalogue.open(cars, default_cache(), bar)
    for record in catalogue.records().values():
        if record.error:
            print(
                f"carfs: {record.path} is damaged and shown as far as it is whole: {record.error}",
                file=sys.stderr,
            )
    return catalogue


def _of_agent() -> AgentCatalogue:
    from agent.client import Client
    from fusefs.agent_catalogue import AgentCatalogue

    return AgentCatalogue(Client())


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """Turns what can be refused into lines for the terminal, with exit codes."""
    from agent import client
    from fusefs import mounting

    try:
        yield
    except* mounting.Refused as group:
        raise CommandFailed(str(_first(group)), Exit.REFUSED) from None
    except* client.AgentUnreachable as group:
        raise AgentUnreachable(str(_first(group))) from None


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


@command(epilog=example("carfs umount mnt"))
@click.argument("mountpoint", type=_PATH)
@click.option(
    "-z", "--lazy", is_flag=True, help="Detach now, even if it is in use; what is open stays readable."
)
def umount(mountpoint: Path, lazy: bool) -> int:
    """End a mount."""
    from fusefs import mounting

    with _refusals():
        place = (
            mountpoint.absolute()
            if mountpoint.name in ("", "..")
            else mountpoint.parent.resolve() / mountpoint.name
        )
        if mounting.mounted_at(place) is None:
            raise CommandFailed(f"nothing is mounted at {place}", Exit.NOT_FOUND)
        mounting.unmount(place, lazy=lazy)
    return Exit.DONE


@command(epilog=example("carfs up ~/carfs"))
@click.argument("mountpoint", type=_PATH)
@click.option("options", "-o", metavar="OPT[,OPT]", multiple=True, help="Mount options, as for carfs mount.")
def up(mountpoint: Path, options: tuple[str, ...]) -> int:
    """Start agent and mount together in the foreground; Ctrl-C ends both."""
    from fusefs import together
    from fusefs.service import SETTLE_S

    names = [name for option in options for name in option.split(",") if name]
    with _refusals(), together.agent() as started:
        mountpoint.mkdir(parents=True, exist_ok=True)

        def ready() -> None:
            print(
                f"carfs: mounted on {mountpoint}, agent {started}; Ctrl-C ends both",
                file=sys.stderr,
                flush=True,
            )

        _serve([], mountpoint, names, 30.0, SETTLE_S, True, ready)
    return Exit.DONE
