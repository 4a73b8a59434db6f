"""`carfs client retrieve` and its like: DAGs that are fetched from elsewhere into CARs of their own."""

from __future__ import annotations

import sys

import click

from agent.cli.calls import call, call_that_lasts, call_with_tasks, shown
from agent.cli.client.given import Json, absolute, range_option, selector_option
from agent.cli.client.reading import reference
from agent.cli.command import command, example, json_option, quiet_option
from agent.cli.exits import AgentRefused, CommandFailed, Exit, ended_by_signals
from agent.cli.output import Styled, color_option, counted, emit_json, emit_table, size_text

_COLORS = {"Done": "green", "Fetching": "blue", "Queued": "blue", "Paused": "yellow", "Failed": "red"}
_ACTIVE = ("Queued", "Fetching", "Paused")

retrievals_argument = click.argument("retrievals", metavar="RETRIEVAL...", nargs=-1, required=True)


@command(
    epilog=example(
        "carfs client retrieve bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi",
        "carfs client retrieve --from https://trustless-gateway.link bafy…/2024 photos-2024",
        "carfs client retrieve --car bafy… photos.car",
        "carfs client retrieve --from ipfs bafy… photos",
        "carfs client retrieve --to ipfs bafy…",
        "carfs client retrieve --no-wait bafy… && carfs client list-retrievals",
    )
)
@click.argument("root", metavar="CID[/PATH]")
@click.argument("out", metavar="[OUT]", required=False)
@click.option("--from", "sources", metavar="URL", multiple=True,
              help="A gateway, another agent, or a CAR at a URL to ask besides those of the configuration (for "
              "admins), or `ipfs`, the IPFS node beside the agent; may be repeated.")  # fmt: skip
@click.option("--to", "node", metavar="ipfs|none", default=None,
              help="Put it into the IPFS node beside the agent, too, pinned; else as ipfs.use_for_retrieval of the "
              "configuration says.")  # fmt: skip
@range_option
@selector_option
@click.option("--car", "is_car", is_flag=True, help="Write OUT as a CAR instead of a file or a directory.")
@click.option("--force", is_flag=True, help="Replace what stands at OUT.")
@click.option("--allow-local/--no-allow-local", "is_local", default=None,
              help="Take what shards and imports hold from there, or fetch all of it; else as retrieval.allow_local "
              "of the configuration says.")  # fmt: skip
@click.option("--no-wait", is_flag=True, help="Begin, say its number, and come back at once.")
@quiet_option
@json_option
def retrieve(
    root: str,
    out: str | None,
    sources: tuple[str, ...],
    node: str | None,
    byte_range: str,
    selectors: tuple[str, ...],
    is_car: bool,
    force: bool,
    is_local: bool | None,
    no_wait: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Fetch the DAG below CID, or the part of it at PATH, and write it to OUT if that is given.

    Every block is checked. What has come stays, whatever happens: asked again, the agent goes on from there, from any
    source. What is here already is not fetched. Ctrl-C stops waiting, and the agent goes on; `cancel-retrieval` calls
    it off.
    """
    if len(selectors) > 1:
        raise click.UsageError("--data-selector is one")
    if out is None and (is_car or force):
        raise click.UsageError("--car and --force are about OUT, which is not given")
    if out is not None and no_wait:
        raise click.UsageError("--no-wait does not go with OUT")
    target = None if out is None else absolute(out)
    cid, _, path = without_scheme(root).partition("/")
    params: Json = {"Root": cid, "Path": path, "Range": byte_range, "From": list(sources)}
    params |= {"Selector": selectors[0]} if selectors else {}
    params |= {"AllowLocal": is_local} if is_local is not None else {}
    params |= {"To": "" if node == "none" else node} if node is not None else {}
    with ended_by_signals():
        one = call("Carfs.StartRetrieval", params)
        if not no_wait:
            one = waited(one, root, quiet=quiet)
        if target is not None:
            ref = reference(f"{cid}/{path}" if path else cid, (), selectors, byte_range=byte_range)
            asked = {"Ref": ref, "Path": target, "IsCAR": is_car, "Replace": force}
            call_with_tasks("Carfs.Export", asked, f"exporting {shown(root)}", target, quiet=quiet)
    if as_json:
        emit_json(one)
    elif no_wait:
        print(f"Retrieval {one['ID']}, Root {one['Root']}")
    else:
        into = f" to {shown(out)}" if out is not None else ""
        print(f"Retrieved {shown(root)}{into}: {counted(one['Blocks'], 'block')}, {size_text(one['Bytes'])}")


def fetched(cid: str, sources: tuple[str, ...], *, quiet: bool) -> tuple[Json, bool]:
    """The record of the retrieval of all below a CID, when it is done, and whether it was there before."""
    try:
        call("Carfs.GetRetrieval", {"Retrieval": cid})
        is_old = True
    except AgentRefused as error:
        if error.error_class != "not-found":
            raise
        is_old = False
    one = call("Carfs.StartRetrieval", {"Root": cid, "From": list(sources), "To": ""})
    return waited(one, cid, quiet=quiet), is_old


def waited(one: Json, root: str, *, quiet: bool) -> Json:
    """The record of a retrieval that has been started, when it is done."""
    which = {"Retrieval": one["ID"]}
    try:
        return call_that_lasts(
            "Carfs.WaitRetrieval", which, f"retrieving {shown(root)}",
            lambda now: (now["Bytes"], now["Total"] or 0), quiet=quiet, asked="Carfs.GetRetrieval", asked_with=which,
        )  # fmt: skip
    except KeyboardInterrupt:
        print(
            f"carfs: the agent goes on; to call it off: carfs client cancel-retrieval {one['ID']}",
            file=sys.stderr,
        )
        raise


@command(
    epilog=example("carfs client list-retrievals", "carfs client list-retrievals --json | jq '.[].CARPath'")
)
@click.option("--active", is_flag=True, help="Only those that are not at an end.")
@color_option
@json_option
def list_retrievals(active: bool, color: bool, as_json: bool) -> None:
    """List the retrievals, oldest first: how far they are, how fast, and from where."""
    records = [one for one in call("Carfs.ListRetrievals") if not active or _state(one) in _ACTIVE]
    if as_json:
        emit_json(records)
        return
    rows = [_row(one) for one in records]
    if rows:
        emit_table(("ID", "Root", "State", "Size", "Rate", "Left", "Source"), rows, color=color)
    for one in records:
        if one["Error"]:
            print(f"carfs: retrieval {one['ID']}: {shown(one['Error'])}", file=sys.stderr)


def _state(one: Json) -> str:
    return str(one["State"]).removeprefix("RetrievalState")


def _row(one: Json) -> tuple[object, ...]:
    state = _state(one)
    part = f"/{one['Path']}" if one["Path"] else ""
    of_all = f" of {size_text(one['Total'])}" if one["Total"] and state != "Done" else ""
    left = f"{one['ETASeconds']:.0f} s" if one["ETASeconds"] is not None else ""
    rate = f"{size_text(one['Rate'])}/s" if one["Rate"] else ""
    return (
        one["ID"], shown(f"{one['Name']}{part}"), Styled(state, _COLORS.get(state, "")),
        f"{size_text(one['Bytes'])}{of_all}", rate, left, shown(one["Source"]),
    )  # fmt: skip


@command(epilog=example("carfs client cancel-retrieval 1790000000000000001"))
@retrievals_argument
def cancel_retrieval(retrievals: tuple[str, ...]) -> None:
    """Call each RETRIEVAL off, given by its number or root; what has come stays, for who asks for it again."""
    _each("Carfs.CancelRetrieval", retrievals, "Cancelled")


@command(epilog=example("carfs client drop-retrieval 1790000000000000001"))
@retrievals_argument
def drop_retrieval(retrievals: tuple[str, ...]) -> None:
    """Forget each RETRIEVAL, given by its number or root, and delete its CAR; refused while it is read."""
    _each("Carfs.RemoveRetrieval", retrievals, "Dropped")


def _each(method: str, retrievals: tuple[str, ...], done: str) -> None:
    """One that fails does not keep the others from it; the first failure is the command's."""
    failed: CommandFailed | None = None
    for which in retrievals:
        try:
            call(method, {"Retrieval": int(which) if which.isdecimal() else which}, timeout_s=None)
        except CommandFailed as error:
            if len(retrievals) == 1 or error.code == Exit.UNREACHABLE:
                raise
            print(f"carfs: {error}", file=sys.stderr)
            failed = failed or error
        else:
            print(f"{done} retrieval {shown(which)}")
    if failed is not None:
        raise CommandFailed(f"{done.lower()} not all of them", failed.code)


def without_scheme(given: str) -> str:
    """A CID, and a path below it, without the ways in which they are written elsewhere."""
    return given.removeprefix("ipfs://").removeprefix("/ipfs/")
