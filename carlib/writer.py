"""Writing CARs in one pass: sections as they come, the root when it is known, the index from what was written.

The file appears complete and durable under its name, or not at all.  Since roots are known last, a header with room for
them is written first and patched (CARv1 headers have no padding, so the roots must take exactly the room that was
kept). Source: CARv1; CARv2, Header; go-car writes the same bytes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Final

from carlib import durable
from carlib.cid import RAW, Cid
from carlib.errors import LimitExceeded
from carlib.header import PRAGMA, V1Header
from carlib.index import write
from carlib.indexing import SortedRuns, moved_back
from carlib.limits import MAX_BLOCK_BYTES, MAX_CID_BYTES, MIB
from carlib.multihash import SHA2_256
from carlib.options import DEFAULT, WriteOptions
from carlib.section import encode_head
from carlib.usual import SHA2_256_PREFIXES, USUAL_CID_BYTES

_BEHIND_BYTES: Final = 16 * MIB
"""Written before the kernel is told to begin with them."""
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
        roots: Sequence[Cid],
        options: WriteOptions,
        *,
        is_file: bool = False,
        spare: bool = False,
    ) -> None:
        """Over an empty seekable file; use :func:`creating`."""
        self._is_file = is_file
        self._spare = spare and options.version == 2
        self.blocks = self.duplicates = self.data_bytes = 0
        self.roots: tuple[Cid, ...] = tuple(roots)
        self._out = out
        self._options = options
        self._begun = 0
        self._whole_cids = options.whole_cids
        header = V1Header(self.roots).encode()
        self._room = self._position = len(header)
        self._seen: set[bytes] | None = None if options.allow_duplicates else set()
        codec = options.index_codec
        self._runs = SortedRuns(folder, codec) if options.version == 2 and codec is not None else None
        out.write(PRAGMA + bytes(options.base - len(PRAGMA)) if options.version == 2 else b"")
        out.write(header)

    def put(self, cid: Cid, data: bytes | memoryview) -> bool:
        """Append the block unless it is there; whether it was appended.

        Identity CIDs are stored only with the option for it.  The caller vouches that ``data`` hashes to ``cid``.
        Raises LimitExceeded for what no reader would take, OSError.
        """
        raw, size = cid.raw, len(data)
        usual = len(raw) == USUAL_CID_BYTES and raw[:4] in SHA2_256_PREFIXES
        if not usual and cid.is_identity and not self._options.identity:
            return False
        if self._seen is not None:
            key = raw if self._whole_cids else raw[2:] if usual else cid.multihash
            if key in self._seen:
                self.duplicates += 1
                return False
            self._seen.add(key)
        if size > MAX_BLOCK_BYTES:
            raise LimitExceeded("block length", size, MAX_BLOCK_BYTES)
        if len(raw) > MAX_CID_BYTES:
            raise LimitExceeded("CID length", len(raw), MAX_CID_BYTES)
        head = encode_head(raw, size)
        self._out.write(head)
        self._out.write(data)
        if self._runs is not None:
            if usual:
                self._runs.add_one(SHA2_256, raw[4:], self._position)
            else:
                self._runs.add_one(cid.hash_code, cid.digest, self._position)
        self._position += len(head) + size
        self.blocks += 1
        self.data_bytes += size
        if self._position - self._begun >= _BEHIND_BYTES and self._is_file:
            start = self._options.base + self._begun
            durable.begin_writing(self._out, start, self._position - self._begun)
            self._begun = self._position
        return True

    @property
    def payload_size(self) -> int:
        """Bytes of the CARv1 so far."""
        return self._position

    def finish(
        self, roots: Sequence[Cid] | None = None, *, between: Callable[[BinaryIO], object] | None = None
    ) -> None:
        """Patch ``roots`` in (those of the start if None) and, in a CARv2, append the index and write the header last.

        ``between`` may write what it likes between payload and index, where readers do not look.  Raises ValueError
        where the roots do not take the room that was kept for them; with spare room, what they leave becomes padding
        before the payload.
        """
        options, out, left = self._options, self._out, 0
        self._seen = None  # what it takes is needed to sort the index
        if roots is not None:
            encoded = V1Header(tuple(roots)).encode()
            left = self._room - len(encoded)
            if left and not (self._spare and left > 0):
                raise ValueError(f"header of {len(encoded)} bytes where {self._room} were kept for it")
            out.seek(options.base)
            out.write(bytes(left) + encoded)
            self.roots = tuple(roots)
        if options.version == 1:
            return
        out.seek(options.base + self._position)
        header = options.header(self._position)
        header = replace(header, data_offset=header.data_offset + left, data_size=header.data_size - left)
        if between is not None:
            between(out)
        if self._runs is not None and options.index_codec is not None:
            out.write(bytes(options.index_padding))
            header = replace(header, index_offset=out.tell())
            write(out, options.index_codec, moved_back(self._runs.buckets(), left))
        out.seek(len(PRAGMA))
        out.write(header.encode())

    def close(self) -> None:
        """Let go of the temporary files; not of the output."""
        if self._runs is not None:
            self._runs.close()


@contextlib.contextmanager
def creating(
    out: Path | BinaryIO,
    options: WriteOptions = DEFAULT,
    *,
    roots: Sequence[Cid] = (USUAL_ROOT,),
    spare: bool = False,
) -> Iterator[CarWriter]:
    """A :class:`CarWriter` whose file becomes ``out`` when the block ends, and is gone if it raises.

    ``roots``: the roots, or as many of the same lengths where they are known only at the end (``finish(roots)``); with
    ``spare``, in a CARv2, of the greatest lengths that they may have.
    A CARv1 whose roots are known may go to a stream that cannot seek; else ValueError.
    """
    if not isinstance(out, Path):
        if options.version != 1:
            raise ValueError("the header of a CARv2 is written last, which a stream cannot do")
        yield CarWriter(out, Path(), roots, options)
        return
    with durable.replacing(out) as file:
        writer = CarWriter(file, out.parent, roots, options, is_file=True, spare=spare)
        try:
            yield writer
        finally:
            writer.close()
