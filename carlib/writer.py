"""Writing CARs in one pass: sections as they come, the root when it is known, the index from what was written.

The file appears complete and durable under its name, or not at all.  Since roots are known last, a header with room for
them is written first and patched (CARv1 headers have no padding, so the roots must take exactly the room that was
kept). Source: CARv1; CARv2, Header; go-car writes the same bytes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final

from carlib import durable, varint
from carlib.cid import RAW, Cid
from carlib.errors import LimitExceeded
from carlib.header import PRAGMA, V2_PREFIX_BYTES, V1Header, V2Header
from carlib.index import MULTIHASH_INDEX_SORTED, write
from carlib.indexing import SortedRuns
from carlib.limits import MAX_BLOCK_BYTES, MAX_CID_BYTES

USUAL_ROOT: Final = Cid.v1(RAW, b"\x12\x20" + bytes(32))
"""A root of 36 bytes: the room kept for one CIDv1 over sha2-256."""


class CarWriter:
    """One CAR being written; blocks go in through :meth:`put`, and the file is made whole by :meth:`finish`.

    ``blocks`` and ``data_bytes`` count what was written, ``duplicates`` what was already there.
    """

    def __init__(
        self,
        out: BinaryIO,
        folder: Path,
        *,
        version: int,
        roots: Sequence[Cid],
        codec: int,
        deduplicate: bool,
    ) -> None:
        """Over an empty seekable file; use :func:`creating`."""
        self.blocks = self.duplicates = self.data_bytes = 0
        self.roots: tuple[Cid, ...] = tuple(roots)
        self._out = out
        self._version = version
        self._codec = codec
        self._room = len(V1Header(self.roots).encode())
        self._base = V2_PREFIX_BYTES if version == 2 else 0
        self._position = self._room
        self._seen: set[bytes] | None = set() if deduplicate else None
        self._runs = SortedRuns(folder, codec) if version == 2 else None
        if version == 2:
            out.write(PRAGMA + bytes(V2_PREFIX_BYTES - len(PRAGMA)))
        out.write(V1Header(self.roots).encode())

    def put(self, cid: Cid, data: bytes | memoryview) -> bool:
        """Append the block unless its multihash is there; whether it was appended.

        Identity CIDs are never stored.  The caller vouches that ``data`` hashes to ``cid``.  Raises LimitExceeded
        for what no reader would take, OSError.
        """
        if cid.is_identity:
            return False
        if self._seen is not None:
            digest = cid.multihash
            if digest in self._seen:
                self.duplicates += 1
                return False
            self._seen.add(digest)
        if len(data) > MAX_BLOCK_BYTES:
            raise LimitExceeded("block length", len(data), MAX_BLOCK_BYTES)
        if len(cid.raw) > MAX_CID_BYTES:
            raise LimitExceeded("CID length", len(cid.raw), MAX_CID_BYTES)
        head = varint.encode(len(cid.raw) + len(data)) + cid.raw
        self._out.write(head)
        self._out.write(data)
        if self._runs is not None:
            self._runs.add_one(cid.hash_code, cid.digest, self._position)
        self._position += len(head) + len(data)
        self.blocks += 1
        self.data_bytes += len(data)
        return True

    def finish(self, roots: Sequence[Cid] | None = None) -> None:
        """Patch ``roots`` in (those of the start if None) and, in a CARv2, append the index and write the header last.

        Raises ValueError where the roots do not take the room that was kept for them.
        """
        if roots is not None:
            encoded = V1Header(tuple(roots)).encode()
            if len(encoded) != self._room:
                raise ValueError(f"header of {len(encoded)} bytes where {self._room} were kept for it")
            self._out.seek(self._base)
            self._out.write(encoded)
            self.roots = tuple(roots)
        if self._runs is not None:
            self._out.seek(self._base + self._position)
            write(self._out, self._codec, self._runs.buckets())
            self._out.seek(len(PRAGMA))
            self._out.write(V2Header(self._base, self._position, self._base + self._position).encode())

    def close(self) -> None:
        """Let go of the temporary files; not of the output."""
        if self._runs is not None:
            self._runs.close()


@contextlib.contextmanager
def creating(
    path: Path,
    *,
    version: int = 2,
    roots: Sequence[Cid] = (USUAL_ROOT,),
    codec: int = MULTIHASH_INDEX_SORTED,
    deduplicate: bool = True,
) -> Iterator[CarWriter]:
    """A :class:`CarWriter` whose file becomes ``path`` when the block ends, and is gone if it raises.

    ``roots``: the roots, or as many of the same lengths where they are known only at the end (``finish(roots)``).
    """
    if version not in (1, 2):
        raise ValueError(f"CAR version {version}")
    with durable.replacing(path) as out:
        writer = CarWriter(
            out, path.parent, version=version, roots=roots, codec=codec, deduplicate=deduplicate
        )
        try:
            yield writer
        finally:
            writer.close()
