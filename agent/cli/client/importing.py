"""`carfs client import`: from paths, or from standard input."""

from __future__ import annotations

import os
import stat
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlencode

import click

from agent import client
from agent.cli.calls import POLL_INTERVAL_S, call, shown
from agent.cli.client.given import absolute, text
from agent.cli.client.retrieving import fetched, without_scheme
from agent.cli.command import command, example, json_option
from agent.cli.exits import AgentRefused, AgentUnreachable, CommandFailed, Exit, ended_by_signals
from agent.cli.output import counted, emit_json_line
from agent.cli.progress import Step, progress

Json = Any  # any value that JSON can carry

STDIN = "-"
PIECE_BYTES = 1 << 20
CANCEL_TIMEOUT_S = 20.0
_PROFILES = (
    "carfs", "unixfs-v1-2025", "unixfs-v0-2015", "legacy-cid-v0", "test-cid-v1", "test-cid-v1-wide", "kubo-cid-v1",
    "lotus", "go-car", "ipfs-car",
)  # fmt: skip


@command(
    epilog=example(
        "carfs client import photos",
        "carfs client import --car backup.car",
        "carfs client import --from ipfs bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi",
        "carfs client import --dense --name notes notes.txt",
        "pg_dump db | carfs client import --name db -",
    )
)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--from", "source", metavar="ipfs|URL", default="",
              help="PATH is a CID: import the DAG from the IPFS node beside the agent, or (for admins) a "
              "gateway.")  # fmt: skip
@click.option(
    "--car", "is_car", is_flag=True, help="PATH is a CAR: use it where it is. [default: if it begins as one]"
)
@click.option("--dense", is_flag=True, help="Copy the data, instead of referring to it where it is.")
@click.option("--profile", type=click.Choice(_PROFILES), default="carfs", show_default=True,
              help="Whose CIDs to make; see `carfs car create`.")  # fmt: skip
@click.option("--name", default="", metavar="NAME", callback=text,
              help="What to call the import.  [default: the last component of PATH]")  # fmt: skip
@click.option(
    "--hidden/--no-hidden", default=None, help="Import hidden files, or not.  [default: of the profile]"
)
@click.option("--preserve", type=click.Choice(["mode", "mtime", "all"]), default=None,
              help="Store permissions, times of modification, or both.")  # fmt: skip
@click.option("--share", is_flag=True,
              help="With --dense: refer to files of other imports where they have the same blocks.")  # fmt: skip
@click.option("--no-wait", is_flag=True, help="Return at once; `carfs client local` shows how far it is.")
@click.option("-q", "--quiet", is_flag=True, help="Print roots alone, and no progress.")
@json_option
def import_(
    paths: tuple[str, ...],
    source: str,
    is_car: bool,
    dense: bool,
    profile: str,
    name: str,
    hidden: bool | None,
    preserve: str | None,
    share: bool,
    no_wait: bool,
    quiet: bool,
    as_json: bool,
) -> int:
    """Import files, directories or CARs without a copy: the data stay where they are, and are read from there.

    With --from, PATH is a CID, and a copy is made of the DAG below it, every block of which is checked. PATH may be -
    for standard input, of which a copy is made. Of something that is imported already, that import is
    given. Ctrl-C leaves nothing behind. If one of several cannot be imported, the others are all the same. With --json,
    one object a line.
    """
    if is_car and dense:
        raise click.UsageError("give --car or --dense, not both")
    if name and len(paths) > 1:
        raise click.UsageError("--name is for one PATH")
    if share and not dense:
        raise click.UsageError("--share is for --dense")
    if STDIN in paths and (hidden is not None or preserve or no_wait or share):
        raise click.UsageError("standard input has no hidden files, modes or times, and is always waited for")
    if source and (dense or is_car or hidden is not None or preserve or no_wait or share or STDIN in paths):
        raise click.UsageError(
            "--from gives a DAG as it is, and waits for it: of the options only --name goes with it"
        )
    kind = "car" if is_car else "dense" if dense else "auto"
    params = {"Name": name, "Kind": kind, "Profile": profile, "Hidden": hidden, "Preserve": preserve or ""}
    params |= {"Share": share, "Wait": not no_wait}
    worst = Exit.DONE
    for path in paths:
        try:
            with ended_by_signals():
                found = (
                    from_elsewhere(path, source, name, quiet=quiet)
                    if source
                    else _from_stdin(kind, name, profile, quiet)
                    if path == STDIN
                    else _from_path(path, params, quiet)
                )
        except AgentUnreachable:
            raise
        except CommandFailed as error:
            if len(paths) == 1:
                raise
            print(f"carfs: {error}", file=sys.stderr)
            worst = max(worst, error.code)
            continue
        _print(found, quiet=quiet, as_json=as_json, waited=not no_wait)
    return worst


def _print(found: Json, *, quiet: bool, as_json: bool, waited: bool) -> None:
    if as_json:
        emit_json_line(found)
    elif quiet:
        print(found["Root"] if waited or found["Root"] else found["ID"])
    else:
        print(f"Import {found['ID']}, Root {found['Root'] or '<nil>'}")
    sys.stdout.flush()
    if quiet:
        return
    if found["Existing"]:
        print(f"carfs: it was there already, as import {shown(found['Name'])}", file=sys.stderr)
    for one in found.get("Skipped", ()):
        print(f"carfs: left out: {shown(one['Path'])}: {shown(one['Reason'])}", file=sys.stderr)
    more = found.get("SkippedCount", 0) - len(found.get("Skipped", ()))
    if more > 0:
        print(f"carfs: left out: {counted(more, 'more')}", file=sys.stderr)


# From elsewhere


def from_elsewhere(given: str, source: str, name: str, *, quiet: bool) -> Json:
    """The record of an import that is made of the DAG below a CID, as a source has it."""
    cid, _, path = without_scheme(given).partition("/")
    if path:
        raise CommandFailed(f"{shown(given)}: give a CID without a path: an import has one root", Exit.USAGE)
    one, is_old = fetched(cid, (source,), quiet=quiet)
    found = call("Carfs.ImportRetrieval", {"Retrieval": one["ID"], "Name": name}, timeout_s=None)
    if not is_old:
        call("Carfs.RemoveRetrieval", {"Retrieval": one["ID"]}, timeout_s=None)
    return {**found, "Existing": False}


# From a path


def _from_path(path: str, params: Json, quiet: bool) -> Json:
    """Waits in another thread, and meanwhile shows how far it is; whoever interrupts it calls the import off."""
    source = absolute(path)
    asked = {**params, "Path": source}
    if not params["Wait"]:
        return call("Carfs.Import", asked)
    watch = _Watch(os.path.realpath(source) if not source.startswith("file:") else source)
    outcome: list[Json | Exception] = []

    def run() -> None:
        try:
            outcome.append(call("Carfs.Import", asked, timeout_s=None))
        except Exception as error:  # raised below, in the thread that waits
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True)
    try:
        thread.start()
        with progress(f"importing {shown(path)}", quiet=quiet) as step:
            while thread.is_alive():
                thread.join(POLL_INTERVAL_S)
                if thread.is_alive() and not quiet:
                    watch.show(step)
    except (KeyboardInterrupt, SystemExit):
        if thread.is_alive():
            watch.cancel()
        raise
    if isinstance(outcome[0], Exception):
        raise outcome[0]
    return outcome[0]


class _Watch:
    """The import that we wait for, as others see it: which it is, is not known before it is made."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._after = time.time_ns() - 1_000_000_000  # numbers are of the clock

    def show(self, step: Step) -> None:
        with suppress(AgentUnreachable, AgentRefused):  # if it matters, the call itself says so
            for one in self._mine():
                step(one["Done"], one["Total"])

    def cancel(self) -> None:
        """Returns when nothing is left of it."""
        with suppress(AgentUnreachable, AgentRefused):  # it is made, or was called off as we were gone
            for one in self._mine():
                call("Carfs.CancelImport", {"Import": one["ID"]}, timeout_s=CANCEL_TIMEOUT_S)

    def _mine(self) -> list[Json]:
        found = call("Carfs.Imports", {"After": self._after})
        return [
            one for one in found if one["State"] == "ImportStateImporting" and one["FilePath"] == self._path
        ]


# From standard input


def _from_stdin(kind: str, name: str, profile: str, quiet: bool) -> Json:
    if sys.stdin.isatty():
        print("carfs: reading from the terminal; Ctrl-D ends it", file=sys.stderr)
    query = urlencode({"kind": kind, "profile": profile} | ({"name": name} if name else {}))
    with progress("importing standard input", quiet=quiet) as step:
        try:
            found = client.Client(timeout_s=None).upload(f"/rest/v0/import?{query}", _pieces(step))
        except client.AgentUnreachable as error:
            raise AgentUnreachable(str(error)) from error
        except client.AgentError as error:
            raise AgentRefused(shown(str(error)), error.error_class) from error
    return {
        "ID": found["ImportID"], "Name": found["Name"], "Root": found["Cid"]["/"], "Existing": found["Existing"],
        "State": "ImportStateReady",
    }  # fmt: skip


def _pieces(step: Step) -> Iterator[bytes]:
    status = os.fstat(sys.stdin.fileno())
    total, done = (status.st_size if stat.S_ISREG(status.st_mode) else 0), 0
    while piece := os.read(sys.stdin.fileno(), PIECE_BYTES):
        yield piece
        done += len(piece)
        step(done, total)
