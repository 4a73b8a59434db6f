"""The frame around a CARv1 payload: putting it on, taking it off, giving it an index, changing its roots.

The payload's bytes stay as they are.  Every result appears complete and durable or not at all, also where it takes the
place of its source.  Source: go-car v2 ``WrapV1``, ``ExtractV1File``, ``AttachIndex``, ``ReplaceRootsInFile``.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO, Final

from carlib import durable, indexing
from carlib.cid import Cid
from carlib.container import Container, read_container
from carlib.errors import CarError, Malformed
from carlib.header import PRAGMA, V1Header
from carlib.index import Index
from carlib.limits import MIB
from carlib.options import DEFAULT, WriteOptions
from carlib.source import ByteSource, FileSource

Progress = Callable[[int, int], None]
_COPY_BYTES: Final = 4 * MIB


class AlreadyV1(CarError):
    """There is nothing to take off: the file is a CARv1."""


def wrap(
    source: Path,
    out: Path,
    options: WriteOptions = DEFAULT,
    *,
    index: Path | None = None,
    progress: Progress | None = None,
) -> None:
    """The payload of ``source`` (either version) in a CARv2 of ``options`` at ``out``, which may be ``source`` itself.

    The index is made from the sections, or copied from the detached index file ``index`` after it was read through.
    Raises CarError, OSError.
    """
    with FileSource(source) as car, durable.replacing(out) as file:
        container = read_container(car)
        file.write(PRAGMA + bytes(options.base - len(PRAGMA)))
        _copy(car, container.data_offset, container.data_size, file, progress)
        if options.indexed:
            file.write(bytes(options.index_padding))
            if index is None:
                _write_index(source, file, out.parent, options)
            else:
                _copy_index(index, container, file)
        file.seek(len(PRAGMA))
        file.write(options.header(container.data_size).encode())


def extract_v1(source: Path, out: Path, *, progress: Progress | None = None) -> None:
    """The CARv1 inside the CARv2 ``source`` at ``out``, which may be ``source`` itself.

    Raises AlreadyV1 where there is nothing to take off, other CarErrors, OSError.
    """
    with FileSource(source) as car:
        container = read_container(car)
        if container.version == 1:
            raise AlreadyV1("this is a CARv1 already", source=car.name)
        with durable.replacing(out) as file:
            _copy(car, container.data_offset, container.data_size, file, progress)


def detach_index(source: Path, out: Path) -> int:
    """Write the index that the CARv2 ``source`` carries to ``out``; how many entries it has.

    Raises Malformed where it carries none, CarError where that cannot be read, OSError.
    """
    with FileSource(source) as car:
        container = read_container(car)
        if not container.index_offset:
            raise Malformed("there is no index in this CAR", source=car.name)
        index = Index.open(car, container.index_offset)
        with durable.replacing(out) as file:
            _copy(car, container.index_offset, index.end - container.index_offset, file, None)
        return len(index)


def replace_roots(path: Path, roots: Sequence[Cid], *, rewrite: bool = False) -> None:
    """Put ``roots`` into the header of the CAR at ``path``, in place.

    A CARv1 header has no room to spare: where the new one is longer or shorter, Malformed says both sizes, or with
    ``rewrite`` the file is written anew (and its index made anew, since every offset moves).  Raises CarError, OSError.
    """
    encoded = V1Header(tuple(roots)).encode()
    with FileSource(path) as car:
        container = read_container(car, strict=False)
        room = container.first_section - container.data_offset
        if len(encoded) != room and not rewrite:
            raise Malformed(
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
        _rewrite(car, path, container, encoded)


def _rewrite(car: ByteSource, path: Path, container: Container, header: bytes) -> None:
    """The same sections behind another header; an index of the codec that was there is made anew."""
    options = WriteOptions(version=container.version, index_codec=None)
    if container.version == 2:
        options = WriteOptions(
            index_codec=_codec(car, container),
            identity=container.fully_indexed,
            data_padding=container.data_offset - WriteOptions().base,
        )
    sections = container.data_end - container.first_section
    with durable.replacing(path) as file:
        if container.version == 2:
            file.write(PRAGMA + bytes(options.base - len(PRAGMA)))
        file.write(header)
        _copy(car, container.first_section, sections, file, None)
        if container.version == 2:
            size = len(header) + sections
            file.seek(len(PRAGMA))
            file.write(options.header(size).encode())
            file.seek(options.base + size)
            if options.indexed:
                file.flush()
                _write_index(Path(file.name), file, path.parent, options)


def _codec(car: ByteSource, container: Container) -> int | None:
    if not container.index_offset:
        return None
    try:
        return Index.open(car, container.index_offset).codec
    except CarError:
        return DEFAULT.index_codec


def _write_index(car: Path, file: BinaryIO, folder: Path, options: WriteOptions) -> None:
    """Append the index of the sections in ``car``."""
    assert options.index_codec is not None
    temporary = folder / f"{durable.TEMPORARY_PREFIX}{os.getpid()}.index"
    try:
        indexing.build(car, temporary, codec=options.index_codec, identity=options.identity)
        with temporary.open("rb") as index:
            shutil.copyfileobj(index, file, _COPY_BYTES)
    finally:
        temporary.unlink(missing_ok=True)


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
