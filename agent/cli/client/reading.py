"""`carfs client ls`, `cat` and `find`: what imports and shards hold, without writing anything."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from urllib.parse import urlencode

import click

from agent import client
from agent.cli.calls import call, shown, stream
from agent.cli.client.given import Json, find_data, range_option, selector_option
from agent.cli.command import command, example, json_option, quiet_option
from agent.cli.exits import AgentRefused, AgentUnreachable, CommandFailed, Exit
from agent.cli.output import emit_json, emit_json_line
from agent.cli.progress import progress_beside_output

_BAD = {"missing": Exit.NOT_FOUND, "corrupt": Exit.CORRUPT}


@command(
    epilog=example(
        "carfs client ls photos",
        "carfs client ls --depth 3 --json photos/2024 | jq -r .Name",
        "carfs client ls --ipld --depth 2 bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi",
    )
)
@click.argument("root", metavar="ROOT[/PATH]")
@click.option("--depth", type=click.IntRange(1, 1024), default=1, show_default=True, metavar="N",
              help="List what is in directories, so many levels down.")  # fmt: skip
@click.option("--ipld", is_flag=True, help="List paths of the data model instead of directories.")
@selector_option
@json_option
def ls(root: str, depth: int, ipld: bool, selectors: tuple[str, ...], as_json: bool) -> int:
    """List what is in a directory: CID, name, and the size that its link states.

    ROOT is an import, or the CID of any block of an import or a shard. With --json, one object a line. The exit code
    is 3 if a block was missing and 5 if one was corrupt; what is there is listed all the same.
    """
    if len(selectors) > 1 or (selectors and not ipld):
        raise click.UsageError("--data-selector is one, for --ipld")
    data = find_data(root)
    params = {"Root": data.root, "Path": data.path, "Depth": depth, "IPLD": ipld}
    params |= {"DataSelector": selectors[0]} if selectors else {}
    worst = Exit.DONE
    for one in stream("Carfs.ListData", params):
        worst = max(worst, _BAD.get(one["Kind"], Exit.DONE))
        if as_json:
            emit_json_line(one)
        elif ipld:
            print(shown(one["Name"]))
        else:
            size = one["Tsize"] if one["Tsize"] is not None else one["Size"]
            print(f"{one['CID']} {shown(one['Name'])}\t{0 if size is None else size}")
        if one["Error"] and not as_json:
            print(f"carfs: {shown(one['Name'])}: {shown(one['Error'])}", file=sys.stderr)
    return worst


@command(
    epilog=example("carfs client cat photos/2024/a.jpg > a.jpg", "carfs client cat --range 0:511 disk.img")
)
@click.argument("root", metavar="ROOT[/PATH]")
@range_option
@selector_option
@quiet_option
def cat(root: str, byte_range: str, selectors: tuple[str, ...], quiet: bool) -> None:
    """Print a file of an import or a shard, every block checked.

    ROOT is an import, or the CID of any file in imports and shards. What cannot be had ends it with an error.
    """
    ref = reference(root, (), selectors, byte_range=byte_range)
    with progress_beside_output(f"reading {shown(root)}", quiet=quiet) as step:
        done = 0
        for piece in streamed(ref, is_car=False):
            sys.stdout.buffer.write(piece)
            done += len(piece)
            step(done, 0)


@command(epilog=example("carfs client find bafkreieo2p3k22c3swpk24bckghbv53m3alpr2hmptg5uhwuaghi6ird7a"))
@click.argument("cid", metavar="CID|IMPORT")
@click.option(
    "--elsewhere",
    is_flag=True,
    help="Ask the sources of the configuration, and what its routers name, too: RETRIEVAL, and who has it.",
)
@json_option
def find(cid: str, elsewhere: bool, as_json: bool) -> None:
    """Say which imports and shards here hold the block CID: "LOCAL", and then each of them.

    Nobody else is asked without --elsewhere. The exit code is 3 if nobody has it.
    """
    root = find_data(cid).root
    found = call("Carfs.FindData", {"Root": root}, timeout_s=None)
    if elsewhere:
        found["Offers"] = call("Filecoin.ClientFindData", {"Root": root}, timeout_s=None)
    if as_json:
        emit_json(found)
    offers = found.get("Offers", [])
    for one in offers:
        if one["Err"]:
            print(f"carfs: {shown(one['Miner'])}: {shown(one['Err'])}", file=sys.stderr)
    if found["Incomplete"]:
        print(f"carfs: there may be more: {shown(found['Incomplete'])}", file=sys.stderr)
    is_here = bool(found["Imports"] or found["Shards"])
    if not is_here and all(one["Err"] for one in offers):
        nor = ", and none of the sources that were asked," if elsewhere else ""
        raise CommandFailed(f"no import and no shard here{nor} holds {root}", Exit.NOT_FOUND)
    if as_json:
        return
    for one in offers:
        if not one["Err"]:
            print(f"RETRIEVAL {shown(one['Miner'])}")
    if not is_here:
        return
    print("LOCAL")
    for one in found["Imports"]:
        print(f"import {one['ID']} {shown(one['Name'])}{' (root)' if one['IsRoot'] else ''}")
    for key in found["Shards"]:
        print(f"shard {shown(key)}")


def reference(
    root: str, paths: tuple[str, ...], selectors: tuple[str, ...], *, byte_range: str = "", proof: bool = False,
    version: int = 1,
) -> Json:  # fmt: skip
    """An ExportRef; `paths` are below that of `root`."""
    data = find_data(root)
    below = [f"{data.path}/{path}" for path in paths] or ([data.path] if data.path.strip("/") else [])
    if below and selectors:
        raise click.UsageError("give paths or --data-selector, not both")
    dags = [{"DataSelector": text, "ExportMerkleProof": proof} for text in selectors]
    return {
        "Root": data.root, "DAGs": dags, "Paths": below, "MerkleProof": proof, "Range": byte_range, "Version": version
    }  # fmt: skip


def streamed(ref: Json, *, is_car: bool) -> Iterator[bytes]:
    """The bytes of an export; raises AgentUnreachable, AgentRefused."""
    query = urlencode({"car": "true" if is_car else "false", "export": json.dumps(ref)})
    try:
        yield from client.Client(timeout_s=None).download(f"/rest/v0/export?{query}")
    except client.AgentUnreachable as error:
        raise AgentUnreachable(str(error)) from error
    except client.AgentError as error:
        raise AgentRefused(shown(str(error)), error.error_class) from error
