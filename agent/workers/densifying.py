"""The task `dense`: the data of an import as a whole, wherever its blocks lie.

Takes `{"what", …IMPORT}` as `checking` has it, and

- `freeze`, with `"out", "staging", "clones"`: makes the import independent of the user's files. Gives
  `imports.records.Facts` as `facts`, how many files were cloned, and why none were.
- `car`, with `"out", "root"`: writes the DAG as a CARv1, depth first. `out` appears complete and on disk.
- `generate`, with `"path", "is_car", "out", "staging", "profile"` and without IMPORT: the same for a file, a directory
  or a CAR that is no import.
- `size`, with `"root"`: how long that CAR would be, as `payload`, and the piece that it is, as `padded`.
- `piece`, with `"root"`: the piece that it would be, as `commp` gives it. Nothing is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from agent.dagstore.access import Fetch
from agent.imports.records import Kind
from agent.workers.importing import facts_of
from agent.workers.messages import Params
from agent.workers.tasks import Progress
from carlib import durable
from carlib.blockstore import Blocks, ReadOnlyBlockstore
from carlib.cid import Cid
from carlib.export import Export
from carlib.piece.commitment import Commitment
from carlib.piece.sizes import padded_size
from carlib.references import ReferenceBlockstore
from carlib.references.freezing import freeze
from carlib.references.packing import pack_references
from carlib.traversal import Traversal
from carlib.unixfs.profile import PROFILES


def densify(params: Params, progress: Progress, fetch: Fetch) -> Params:
    """See above; raises CarError, OSError."""
    if params["what"] == "freeze":
        return _frozen(params, progress)
    if params["what"] == "generate":
        return _generated(params, progress)
    with _opened(params) as blocks:
        export = Export.plan(Traversal.of(blocks, Cid.parse(params["root"])))
        if params["what"] == "size":
            return {"payload": export.size, "padded": padded_size(export.size)}
        if params["what"] == "piece":
            return _piece(export, progress)
        return _written(blocks, [Cid.parse(params["root"])], Path(params["out"]), progress)


@contextmanager
def _opened(params: Params) -> Iterator[Blocks]:
    car, index = Path(params["car"]), Path(params["index"]) if params["index"] else None
    if params["kind"] == Kind.REF:
        with ReferenceBlockstore.open(car, Path(params["folder"]), index=index) as references:
            yield references
    else:
        with ReadOnlyBlockstore.open(car, index=index) as store:
            yield store


def _generated(params: Params, progress: Progress) -> Params:
    path, out = Path(params["path"]), Path(params["out"])
    if params["is_car"]:
        with ReadOnlyBlockstore.open(path) as store:
            return _written(store, store.roots, out, progress)
    profile = PROFILES[params["profile"]]
    made = Path(params["staging"]) / "made.car"
    pack_references(
        path, made, profile=profile
    )  # of which every leaf is read again, and is not taken on trust
    with ReferenceBlockstore.open(made, Path("/")) as references:
        return _written(references, references.roots, out, progress)


def _written(blocks: Blocks, roots: Sequence[Cid], out: Path, progress: Progress) -> Params:
    export = Export.plan(Traversal.of(blocks, *roots))
    with durable.replacing(out) as file:
        for chunk in _told(export, progress):
            file.write(chunk)
    return {"payload": export.size}


def _piece(export: Export, progress: Progress) -> Params:
    commitment = Commitment()
    for chunk in _told(export, progress):
        commitment.update(chunk)
    piece = commitment.piece()
    return {"root": str(piece.v1), "padded": piece.padded_size, "payload": piece.payload_size}


def _told(export: Export, progress: Progress) -> Iterator[bytes]:
    done = 0
    for chunk in export.chunks():
        yield chunk
        done += len(chunk)
        progress(done, export.size)


def _frozen(params: Params, progress: Progress) -> Params:
    out = Path(params["out"])
    made = Path(params["staging"]) / "made.car"
    with ReferenceBlockstore.open(Path(params["car"]), Path(params["folder"])) as store:
        frozen = freeze(store, made, Path(params["clones"]), progress=progress)
    made.replace(out)
    durable.sync_folder(out.parent)
    return {
        "facts": msgspec.to_builtins(facts_of(out)),
        "clones": frozen.clones,
        "blocks": frozen.blocks,
        "reason": frozen.reason,
    }
