"""The frame around a CARv1 payload: putting it on, taking it off, giving it an index, changing its roots.

The payload's bytes stay as they are.  Every result appears complete and durable or not at all, also where it takes the
place of its source.  Source: go-car v2 ``WrapV1``, ``ExtractV1File``, ``AttachIndex``, ``ReplaceRootsInFile``.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final

from carlib import durable, indexing
from carlib.cid import Cid
from carlib.container import Container, read_container
from carlib.errors import CarError, LimitExceeded, Malformed
from carlib.header import PRAGMA, V1Header
from carlib.index import Index
from carlib.limits import MAX_BLOCK_BYTES, MAX_CID_BYTES, MIB
from carlib.options import DEFAULT, WriteOptions
from carlib.section import Sections, encode_head
from carlib.source import ByteSource, FileSource

Progress = Callable[[int, int], None]
_COPY_BYTES: Final = 4 * MIB


class AlreadyV1(CarError):
    """There is nothing to take off: the file is a CARv1."""


class RootsOfOtherLength(Malformed):
    """The new roots take more or less room in the header than there is."""


def wrap(
    source: Path,
    out: Path | BinaryIO,
    options: WriteOptions = DEFAULT,
    *,
    index: Path | None = None,
    progress: Progress | None = None,
) -> None:
    """The payload of ``source`` (either version) in a CARv2 of ``options`` at ``out``, which may be ``source`` itself.

    ``out`` may be a stream too, a pipe for instance: all sizes are known before the first byte.  The index is made
    from the sections, or copied from the detached index file ``index`` after it was read through.  Raises CarError,
    OSError.
    """
    with FileSource(source) as car, _opened(out) as file:
        container = read_container(car)
        header = PRAGMA + options.header(container.data_size).encode()
        file.write(header.ljust(options.base, b"\0"))
        _copy(car, container.data_offset, container.data_size, file, progress)
        if options.indexed:
            file.write(bytes(options.index_padding))
            if index is None:
                _write_index(source, file, options)
            else:
                _copy_index(index, container, file)


def extract_v1(
    source: Path, out: Path | BinaryIO, *, take_v1: bool = False, progress: Progress | None = None
) -> None:
    """The CARv1 inside the CARv2 ``source`` at ``out``, which may be ``source`` itself, or a stream.

    Raises AlreadyV1 where there is nothing to take off, unless ``take_v1`` says that a copy will do; other CarErrors,
    OSError.
    """
    with FileSource(source) as car:
        container = read_container(car)
        if container.version == 1 and not take_v1:
            raise AlreadyV1("this is a CARv1 already", source=car.name)
        with _opened(out) as file:
            _copy(car, container.data_offset, container.data_size, file, progress)


def detach_index(source: Path, out: Path | BinaryIO) -> int:
    """Write the index that the CARv2 ``source`` carries to ``out``, a file or a stream; how many entries it has.

    Raises Malformed where it carries none, CarError where that cannot be read, OSError.
    """
    with FileSource(source) as car:
        container = read_container(car)
        if not container.index_offset:
            raise Malformed("there is no index in this CAR", source=car.name)
        index = Index.open(car, container.index_offset)
        with _opened(out) as file:
            _copy(car, container.index_offset, index.end - container.index_offset, file, None)
        return len(index)


def replace_roots(path: Path, roots: Sequence[Cid], *, rewrite: bool = False) -> None:
    """Put ``roots`` into the header of the CAR at ``path``, in place.

    A CARv1 header has no room to spare: where the new one is longer or shorter, RootsOfOtherLength says both sizes, or
    with ``rewrite`` the file is written anew (and its index made anew, since every offset moves).  Raises CarError,
    OSError.
    """
    encoded = V1Header(tuple(roots)).encode()
    with FileSource(path) as car:
        container = read_container(car, strict=False)
        room = container.first_section - container.data_offset
        if len(encoded) != room and not rewrite:
            raise RootsOfOtherLength(
                f"current header size ({room}) must match replacement header size ({len(encoded)})",
                source=car.name,
            )
        if len(encoded) == room:
            fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.pwrite(fd, encoded, container.data_offset)
                os.fsync(fd)
            finally:
                os.close(fd)
            return
        _rewrite(car, path, container, encoded, container.data_end)


def append(path: Path, blocks: Sequence[tuple[Cid, bytes]]) -> int:
    """Put ``blocks`` behind those that the CAR at ``path`` has, but those that are there; how many were put.

    The same are blocks of one CID in a CARv1, of one multihash in a CARv2, whose index knows no more (as in go-car).
    The file is replaced when the new one is complete: it is never open for writing, as go-car's would be.  Padding
    behind the payload goes.  The caller vouches for the hashes; identity CIDs are stored where the CAR says that it
    has them.  Raises CarError where the CAR is damaged, LimitExceeded, OSError.
    """
    with FileSource(path) as car:
        container = read_container(car)
        sections = Sections(car, container.first_section, container.data_end, zero_is_end=True)
        same = WriteOptions(whole_cids=container.version == 1).key
        new = {
            same(cid): (cid, data) for cid, data in blocks if container.fully_indexed or not cid.is_identity
        }
        for raw, *_ in sections:
            new.pop(same(Cid(raw)), None)
        if not new:
            return 0
        for cid, data in new.values():
            if len(data) > MAX_BLOCK_BYTES:
                raise LimitExceeded("block length", len(data), MAX_BLOCK_BYTES)
            if len(cid.raw) > MAX_CID_BYTES:
                raise LimitExceeded("CID length", len(cid.raw), MAX_CID_BYTES)
        header = car.pread(container.data_offset, container.first_section - container.data_offset)
        more = b"".join(encode_head(cid.raw, len(data)) + data for cid, data in new.values())
        _rewrite(car, path, container, header, sections.position, more)
    return len(new)


@contextlib.contextmanager
def _opened(out: Path | BinaryIO) -> Iterator[BinaryIO]:
    if isinstance(out, Path):
        with durable.replacing(out) as file:
            yield file
    else:
        yield out


def _rewrite(
    car: ByteSource, path: Path, container: Container, header: bytes, end: int, more: bytes = b""
) -> None:
    """The sections up to ``end`` and ``more`` behind another header; an index like the one there was is made anew."""
    options = WriteOptions(version=container.version, index_codec=None)
    if container.version == 2:
        options = WriteOptions(
            index_codec=_codec(car, container),
            identity=container.fully_indexed,
            data_padding=container.data_offset - WriteOptions().base,
        )
    sections = end - container.first_section
    with durable.replacing(path) as file:
        if container.version == 2:
            file.write(PRAGMA + bytes(options.base - len(PRAGMA)))
        file.write(header)
        _copy(car, container.first_section, sections, file, None)
        file.write(more)
        if container.version == 2:
            size = len(header) + sections + len(more)
            file.seek(len(PRAGMA))
            file.write(options.header(size).encode())
            file.seek(options.base + size)
            if options.indexed:
                file.flush()
                _write_index(Path(file.name), file, options)


def _codec(car: ByteSource, container: Container) -> int | None:
    if not container.index_offset:
        return None
    try:
        return Index.open(car, container.index_offset).codec
    except CarError:
        return DEFAULT.index_codec


def _write_index(car: Path, file: BinaryIO, options: WriteOptions) -> None:
    """Append the index of the sections in ``car``."""
    assert options.index_codec is not None
    with tempfile.TemporaryDirectory(prefix="carfs-") as folder:
        temporary = Path(folder) / "index"
        indexing.build(car, temporary, codec=options.index_codec, identity=options.identity, durably=False)
        with temporary.open("rb") as index:
            shutil.copyfileobj(index, file, _COPY_BYTES)


def _copy_index(index: Path, container: Container, file: BinaryIO) -> None:
    """Append the detached index, once every entry was seen to point into the payload."""
    with FileSource(index) as source:
        found = Index.open(source)
        for entry in found:
            if not container.first_section <= container.data_offset + entry.offset < container.data_end:
                raise Malformed(f"index points to {entry.offset}, outside of the data", source=source.name)
        _copy(source, 0, found.end, file, None)


def _copy(source: ByteSource, start: int, length: int, out: BinaryIO, progress: Progress | None) -> None:
    for offset in range(start, start + length, _COPY_BYTES):
        out.write(source.pread(offset, min(_COPY_BYTES, start + length - offset)))
        if progress is not None:
            progress(min(offset + _COPY_BYTES, start + length) - start, length)
