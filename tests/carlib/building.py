"""Builds files and folders from bytes, for tests that ask for a root CID alone."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from carlib.cid import Cid
from carlib.unixfs import chunking
from carlib.unixfs.builder import Builder
from carlib.unixfs.hashing import Built
from carlib.unixfs.profile import Profile


class Nowhere:
    """A sink that keeps nothing."""

    def put(self, cid: Cid, data: bytes, /) -> None:
        pass


def recut(parts: Iterable[bytes], size: int) -> Iterator[bytes]:
    """The same bytes in chunks of `size`."""
    waiting = b""
    for part in parts:
        waiting += part
        while len(waiting) >= size:
            yield waiting[:size]
            waiting = waiting[size:]
    if waiting:
        yield waiting


def cut(profile: Profile, parts: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes as the profile cuts them."""
    if profile.chunker is None:
        return recut(parts, profile.chunk_size)
    return chunking.by_content(io.BytesIO(b"".join(parts)).read, profile.chunker)


def built_file(
    profile: Profile, parts: Iterable[bytes], *, mode: int | None = None, mtime_ns: int | None = None
) -> str:
    with ThreadPoolExecutor(2) as threads:
        builder = Builder(Nowhere(), profile, threads)
        built = builder.file(cut(profile, parts), mode=mode, mtime_ns=mtime_ns)
        builder.flush()
    return str(built.cid)


def built_directory(profile: Profile, files: Iterable[tuple[bytes, bytes]]) -> str:
    builder = Builder(Nowhere(), profile)
    known: dict[bytes, Built] = {}
    for _, content in (entries := list(files)):
        if content not in known:
            known[content] = builder.file([content])
    return str(builder.directory([(name, known[content]) for name, content in entries]).cid)


def numbered(count: int) -> Iterator[tuple[bytes, bytes]]:
    return ((b"file%d" % number, b"%d\n" % number) for number in range(1, count + 1))
