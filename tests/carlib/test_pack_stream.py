"""Streams are packed in one pass whatever their root will be, and leaves that a user's file has are not stored."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from carlib.blockstore import ReadOnlyBlockstore
from carlib.cid import Cid
from carlib.errors import BlockNotFound
from carlib.export import Export
from carlib.extract import extract
from carlib.limits import MIB
from carlib.pack import pack, pack_stream
from carlib.references import BrokenReference, Reference, ReferenceBlockstore, Target
from carlib.references.packing import pack_references
from carlib.references.sharing import SharedLeaves
from carlib.traversal import Traversal
from carlib.unixfs import File
from carlib.unixfs.profile import PROFILES
from carlib.verify import Depth, verify
from tests.carlib.keystream import keystream


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
@pytest.mark.parametrize("size", [0, 1, 126, 127, MIB, MIB + 1, 2 * MIB + 1])
def test_c2_a_stream_of_any_length_has_the_root_of_a_file(tmp_path: Path, profile: object, size: int) -> None:
    """Lotus kept room for a root of the usual length, and failed on others."""
    data = keystream("lotus-seed", size)
    (tmp_path / "file").write_bytes(data)
    expected = pack(tmp_path / "file", tmp_path / "file.car", profile=profile)  # type: ignore[arg-type]
    report = pack_stream(io.BytesIO(data), tmp_path / "out.car", profile=profile)  # type: ignore[arg-type]
    assert (report, report.bytes) == (expected, size)
    found = verify(tmp_path / "out.car", depth=Depth.FULL)
    assert (found.good, found.index_state, found.complete) == (True, "good", True)
    with ReadOnlyBlockstore.open(tmp_path / "out.car") as blocks:
        assert blocks.roots == (report.root,)
        assert File.open(blocks, report.root).read(0, size + 1) == data


@pytest.mark.parametrize(
    ("size", "cid"),
    [(0, "bafkqaaa"), (127, "bafk2bzacecmftbjsa5irso43aiescxrcn64cobt4im33tuejfxbfgixx5q5vk")],
)
def test_a_stream_has_the_root_that_lotus_gives(tmp_path: Path, size: int, cid: str) -> None:
    data = keystream("lotus-seed", size)
    report = pack_stream(io.BytesIO(data), tmp_path / "out.car", profile=PROFILES["lotus"])
    assert str(report.root) == cid


def test_a_car_of_lotus_profile_of_a_large_file_is_read_once(tmp_path: Path) -> None:
    """Of two leaves the root is inlined, and is known last."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    data = keystream("piped", MIB + 70_000)
    feeding = threading.Thread(target=path.write_bytes, args=(data,))
    feeding.start()
    with path.open("rb", buffering=0) as stream:
        report = pack_stream(stream, tmp_path / "out.car", profile=PROFILES["lotus"])
    feeding.join()
    assert (report.root.is_identity, report.bytes) == (True, len(data))


def test_a_stream_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() >= 2 * MIB:
                raise OSError(5, "Input/output error")
            return super().read(size)

    with pytest.raises(OSError, match="Input/output"):
        pack_stream(Broken(bytes(3 * MIB)), tmp_path / "out.car")
    assert list(tmp_path.iterdir()) == []


def test_progress_of_a_stream_has_no_total(tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    pack_stream(io.BytesIO(bytes(3 * MIB)), tmp_path / "x.car", progress=lambda *step: steps.append(step))
    assert steps == [(MIB, 0), (2 * MIB, 0), (3 * MIB, 0)]


PACK_AND_PRINT_PEAK = """
import sys
from pathlib import Path
from carlib.pack import pack_stream
pack_stream(sys.stdin.buffer, Path(sys.argv[1]))
print(Path("/proc/self/status").read_text())
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_stream(tmp_path: Path) -> None:
    with (tmp_path / "data").open("wb") as file:
        for number in range(512):
            file.write(number.to_bytes(4, "big") * (MIB // 4))
    with (tmp_path / "data").open("rb") as file:
        result = subprocess.run(
            [sys.executable, "-c", PACK_AND_PRINT_PEAK, tmp_path / "x.car"],
            check=True,
            stdin=file,
            capture_output=True,
            text=True,
        )
    peak = re.search(r"VmHWM:\s+(\d+) kB", result.stdout)
    assert peak is not None
    assert int(peak[1]) < 100 * 1024


# -- sharing


DATA = keystream("shared", 3 * MIB)


@pytest.fixture
def first(tmp_path: Path) -> ReferenceBlockstore:
    """An import of a file by references."""
    (tmp_path / "file").write_bytes(DATA)
    pack_references(tmp_path / "file", tmp_path / "first.car", folder=tmp_path)
    return ReferenceBlockstore.open(tmp_path / "first.car", tmp_path)


@pytest.mark.parametrize("is_stream", [True, False])
def test_leaves_that_lie_in_a_users_file_are_not_stored_again(
    tmp_path: Path, first: ReferenceBlockstore, is_stream: bool
) -> None:
    data = DATA[:MIB] + keystream("own", MIB) + DATA[MIB:]
    shared = SharedLeaves(first.references.find, tmp_path)
    if is_stream:
        report = pack_stream(io.BytesIO(data), tmp_path / "out.car", sharing=shared)
    else:
        (tmp_path / "source").write_bytes(data)
        report = pack(tmp_path / "source", tmp_path / "out.car", sharing=shared)
    assert (shared.blocks, shared.bytes, report.blocks) == (3, 3 * MIB, 2)
    first.close()
    (tmp_path / "first.car").unlink()  # the other import may go
    with ReferenceBlockstore.open(tmp_path / "out.car", tmp_path) as store:
        assert extract(store, report.root, tmp_path / "out").is_complete
        assert (tmp_path / "out").read_bytes() == data
        (tmp_path / "file").unlink()  # the file may not
        store.targets.close()
        with pytest.raises(BrokenReference):
            store.get(Cid.of(DATA[:MIB]))


def test_what_is_not_there_any_more_is_stored(tmp_path: Path, first: ReferenceBlockstore) -> None:
    with (tmp_path / "file").open("r+b") as file:
        file.write(b"!")
    shared = SharedLeaves(first.references.find, tmp_path)
    report = pack_stream(io.BytesIO(DATA), tmp_path / "out.car", sharing=shared)
    assert (shared.blocks, report.blocks) == (2, 2)


@pytest.mark.parametrize(
    "lie", [None, Reference(Target(b"file"), 5, MIB), Reference(Target(b"/etc/x"), 0, 9)]
)
def test_where_nothing_is_shared_the_car_is_as_any(
    tmp_path: Path, first: ReferenceBlockstore, lie: Reference | None
) -> None:
    shared = SharedLeaves(lambda _cid: lie, tmp_path)
    pack_stream(io.BytesIO(DATA), tmp_path / "out.car", sharing=shared)
    pack_stream(io.BytesIO(DATA), tmp_path / "plain.car")
    assert (tmp_path / "out.car").read_bytes() == (tmp_path / "plain.car").read_bytes()
    first.close()


def test_c3_a_shared_import_is_exported_as_data(tmp_path: Path, first: ReferenceBlockstore) -> None:
    pack_stream(io.BytesIO(DATA), tmp_path / "out.car", sharing=SharedLeaves(first.references.find, tmp_path))
    with ReferenceBlockstore.open(tmp_path / "out.car", tmp_path) as store:
        export = Export.plan(Traversal.of(store, store.roots[0]), version=2)
        (tmp_path / "exported.car").write_bytes(b"".join(export.chunks()))
    first.close()
    (tmp_path / "file").unlink()
    with ReadOnlyBlockstore.open(tmp_path / "exported.car") as blocks:
        assert File.open(blocks, blocks.roots[0]).read(0, 4 * MIB) == DATA
    with ReadOnlyBlockstore.open(tmp_path / "out.car") as blocks, pytest.raises(BlockNotFound):
        blocks.get(Cid.of(DATA[:MIB]))
