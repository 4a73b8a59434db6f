"""`carfs dagstore register-shard` and `register-shards`: taking CARs in."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes

import click

from agent.cli.calls import call, call_that_indexes, shown
from agent.cli.command import command, example, json_option, quiet_option
from agent.cli.dagstore.given import key_argument
from agent.cli.exits import CommandFailed, Exit
from agent.cli.output import counted, emit_json

Json = Any  # any value that JSON can carry

TOGETHER = 1000  # shards of one call
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|file:/|bytes:")

indexer_option = click.option(
    "--indexer",
    metavar="NAME",
    help="What makes the index: car, or aggregate for pieces of several CARs.  [default: car]",
)


@command(
    epilog=example(
        "carfs dagstore register-shard photos ~/photos.car",
        "carfs dagstore register-shard --lazy piece https://example.org/piece.car --replica s3://bucket/piece.car",
        "carfs dagstore register-shard baga6ea4seaqao7s73y24kcutaosvacpdjgfe5pw76ooefnyqw4ynr3d2y6x2mpq",
    )
)
@key_argument
@click.argument("url", required=False)
@click.option("--lazy/--eager", default=False, help="Index it when it is first used, or now.  [default: now]")
@click.option("--existing-transient", metavar="PATH",
              help="Your own copy of the data, used in place as long as it is there.")  # fmt: skip
@click.option(
    "--replica", "replicas", multiple=True, metavar="URL", help="Where else the data is; may be repeated."
)
@indexer_option
@click.option("--no-wait", is_flag=True, help="Return when it is registered, not when it is indexed.")
@quiet_option
@json_option
def register_shard(
    key: str,
    url: str | None,
    lazy: bool,
    existing_transient: str | None,
    replicas: tuple[str, ...],
    indexer: str | None,
    no_wait: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Take the CAR at URL (a URL or a path) in as the shard KEY, and index it.

    Without URL, KEY is the CID of a piece of this node's deals. The shard stays registered if indexing fails; see
    list-shards and recover-shard.
    """
    wait = not (lazy or no_wait)
    params = {
        "Key": key,
        "URL": f"lotus://{key}" if url is None else absolute_url(url),
        "Lazy": lazy,
        "Wait": wait,
    }
    params |= {"Replicas": [absolute_url(one) for one in replicas]} if replicas else {}
    params |= {"ExistingTransient": str(Path(existing_transient).absolute())} if existing_transient else {}
    params |= {"Indexer": indexer} if indexer else {}
    if wait:
        record = call_that_indexes("Carfs.RegisterShard", params, key, quiet=quiet)
    else:
        record = call("Carfs.RegisterShard", params)
    if as_json:
        emit_json(record)
    else:
        print(f"Registered shard {shown(key)}")


@command(
    epilog=example(
        "ls /srv/pieces/*.car | sed 's|.*/\\(.*\\)\\.car|\\1 &|' | carfs dagstore register-shards --lazy -",
        "carfs dagstore register-shards shards.ndjson",
    )
)
@click.argument("file", type=click.File("r", encoding="utf-8"))
@click.option(
    "--lazy/--eager", default=False, help="Index each when it is first used, or now.  [default: now]"
)
@indexer_option
@json_option
def register_shards(file: Iterable[str], lazy: bool, indexer: str | None, as_json: bool) -> int:
    """Take many CARs in: FILE (- for standard input) has a line for each.

    A line is a KEY, white space and a URL or path; or an object with Key, URL, and if need be Lazy, Replicas,
    ExistingTransient and Indexer.

    Returns when all that could be are on disk; none is waited for. The exit code is 1 if one was refused.
    """
    registered, refused = 0, []
    given = _registrations(file, {"Lazy": lazy} | ({"Indexer": indexer} if indexer else {}))
    while some := list(islice(given, TOGETHER)):
        told = call("Carfs.RegisterShards", {"Shards": some}, timeout_s=None)
        registered += told["Registered"]
        refused += told["Refused"]
    if as_json:
        emit_json({"Registered": registered, "Refused": refused})
    else:
        for one in refused:
            print(f"{shown(one['Key'])} ERROR {shown(one['Error'])}")
        print(f"Registered {counted(registered, 'shard')}" + (f", refused {len(refused)}" if refused else ""))
    return Exit.FAILED if refused else Exit.DONE


def _registrations(lines: Iterable[str], common: Json) -> Iterator[Json]:
    """What the lines ask for, with paths taken from here, and what they do not say from `common`; raises CommandFailed
    that names the line."""
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text:
            continue
        try:
            one = (
                json.loads(text)
                if text.startswith("{")
                else dict(zip(("Key", "URL"), text.split(None, 1), strict=True))
            )
            yield common | one | _absolute(one)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            message = f"line {number}: neither 'KEY URL' nor an object with Key and URL: {text[:80]!r}"
            raise CommandFailed(message, Exit.USAGE) from error


def _absolute(one: Json) -> Json:
    """What of a registration is paths, taken from here."""
    found: Json = {"URL": absolute_url(one["URL"])}
    if "Replicas" in one:
        found["Replicas"] = [absolute_url(url) for url in one["Replicas"]]
    if one.get("ExistingTransient"):
        found["ExistingTransient"] = str(Path(one["ExistingTransient"]).absolute())
    return found


def absolute_url(url_or_path: str) -> str:
    """A path is taken from here, not from wherever the agent runs, and may have a name of any bytes."""
    if _URL.match(url_or_path):
        return url_or_path
    if not url_or_path:
        raise CommandFailed("an empty path", Exit.USAGE)
    return "file://" + quote_from_bytes(os.fsencode(Path.cwd() / url_or_path), safe="/")
