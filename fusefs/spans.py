"""Files that are put together from stretches of the CAR file, of its index and of bytes in hand, unverified,
as they lie there.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from carlib.errors import Truncated
from fusefs.shard import Shard
from fusefs.stores import OpenShard
from fusefs.tree import Buffer

_LARGEST_PEEK = 1 << 20


@dataclass(frozen=True, slots=True)
class Stretch:
    """`size` bytes: `text`, or those at `offset` of the CAR file, or of the detached index file."""

    size: int
    offset: int = 0
    text: bytes | None = None
    of_index: bool = False


Layout = tuple[Stretch, ...]


class SpanContent:
    """One handle's reading of such a file; `layout` is asked for in a thread, when the first byte is."""

    cacheable = True

    def __init__(self, shard: Shard, layout: Callable[[OpenShard], Layout]) -> None:
        self._shard = shard
        self._make_layout = layout
        self._layout: Layout = ()
        self._starts: list[int] = []
        self._opened: OpenShard | None = None
        self._closed = False

    def close(self) -> None:
        self._closed = True
        opened, self._opened = self._opened, None
        if opened is not None:
            self._shard.stores.drop(opened)

    def read_nowait(self, offset: int, size: int) -> Buffer | None:
        if self._opened is None or size > _LARGEST_PEEK:
            return None
        place = bisect_right(self._starts, offset) - 1
        stretch, inside = self._layout[place], offset - self._starts[place]
        if stretch.text is not None or stretch.of_index or inside + size > stretch.size:
            return None
        return self._opened.peek(stretch.offset + inside, size)

    async def read(self, offset: int, size: int) -> Buffer:
        data = await self._shard.waits.call(self._shard.lane, partial(self._read, offset, size))
        if self._opened is None and not self._closed:
            self._opened = self._shard.stores.hold_nowait(self._shard)
        return data

    def _read(self, offset: int, size: int) -> Buffer:
        """In a thread: the bytes; Truncated where a file has become shorter."""
        with self._shard.use() as opened:
            if not self._layout:
                layout = self._make_layout(opened)
                self._starts = [
                    sum(stretch.size for stretch in layout[:place]) for place in range(len(layout))
                ]
                self._layout = layout
            parts: list[bytes] = []
            for start, stretch in zip(self._starts, self._layout, strict=True):
                first, last = max(offset - start, 0), min(offset + size - start, stretch.size)
                if first < last:
                    parts.append(_bytes_of(opened, stretch, first, last))
            return parts[0] if len(parts) == 1 else b"".join(parts)


def _bytes_of(opened: OpenShard, stretch: Stretch, first: int, last: int) -> bytes:
    if stretch.text is not None:
        return stretch.text[first:last]
    read = opened.pread_index if stretch.of_index else opened.pread
    data = read(stretch.offset + first, last - first)
    if len(data) != last - first:
        raise Truncated(
            f"{last - first} bytes are due, {len(data)} are there",
            source=str(opened.record.index_path if stretch.of_index else opened.record.path),
            offset=stretch.offset + first,
        )
    return data
