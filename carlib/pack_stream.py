"""A stream of bytes as an indexed CAR, in one pass: a file as :func:`carlib.pack.pack` makes it, without a file."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from carlib import writer
from carlib.cid import Cid
from carlib.multihash import hashing_threads
from carlib.pack import root_like, rooted
from carlib.packer import PackReport, RootOfOtherLength
from carlib.unixfs import chunking
from carlib.unixfs.builder import Builder
from carlib.unixfs.profile import CARFS, Profile


def pack_stream(pieces: Iterator[bytes], out: Path, *, profile: Profile = CARFS) -> PackReport:
    """Write the file that ``pieces`` are together into a CAR at ``out``, which appears when it is complete.

    Raises what ``pieces`` raises, OSError.
    """
    stream = _Stream(pieces)
    # A root that is inlined has another length, for which the header needs other room; only the smallest files have
    # one, those of two leaves at most.
    head = stream.read_all(2 * profile.chunk_size + 1 if profile.inline_limit else 0)
    if stream.at_end:
        return rooted(profile, lambda room: _attempt(_Stream(iter((head,))), out, profile, room))
    stream.push_back(head)
    return _attempt(stream, out, profile, root_like(profile))


def _attempt(stream: _Stream, out: Path, profile: Profile, room: Cid) -> PackReport:
    with (
        ThreadPoolExecutor(hashing_threads(), "carfs-hash") as threads,
        writer.creating(out, roots=[room]) as car,
    ):
        builder = Builder(car, profile, threads)
        if profile.chunker is None:
            chunks = chunking.fixed(stream.read, profile.chunk_size)
        else:
            chunks = chunking.by_content(stream.read, profile.chunker)
        built = builder.file(chunks)
        builder.flush()
        root = built.cid
        if len(root.raw) != len(room.raw):
            raise RootOfOtherLength(root)
        car.finish([root])
    return PackReport(root, 1, 0, 0, built.size, car.blocks, car.data_bytes, car.duplicates, ())


class _Stream:
    """Pieces of any length, read in others."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")
        self.at_end = False

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes, none only at the end."""
        while not self._rest and not self.at_end:
            piece = next(self._pieces, None)
            if piece is None:
                self.at_end = True
            else:
                self._rest = memoryview(piece)
        given, self._rest = self._rest[:size], self._rest[size:]
        return bytes(given)

    def read_all(self, size: int) -> bytes:
        """``size`` bytes, or all there are: then we are at the end."""
        read: list[bytes] = []
        while size and (piece := self.read(size)):
            read.append(piece)
            size -= len(piece)
        return b"".join(read)

    def push_back(self, data: bytes) -> None:
        """What was read is read again."""
        self._rest = memoryview(data + bytes(self._rest))
