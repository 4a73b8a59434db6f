"""What is read of sectors by this process, counted as Lotus counts its piece reader: what it takes to open one, and
reads, small and big. Nothing is read ahead and thrown away, and nothing is kept, so that there is no more to count."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Final

from carlib.source import FileSource

SMALL_BYTES: Final = 4096  # below: Lotus' MinRandomReadSize


class SectorReads:
    """Counts; from several threads at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.opened = 0
        self.reads: Counter[str] = Counter()  # by size, which is "small" or "big"
        self.read_bytes: Counter[str] = Counter()  # padded ones, likewise

    def note_open(self) -> None:
        with self._lock:
            self.opened += 1

    def note(self, count: int) -> None:
        size = "small" if count < SMALL_BYTES else "big"
        with self._lock:
            self.reads[size] += 1
            self.read_bytes[size] += count


READS: Final = SectorReads()
"""Of this process."""


class SectorSource(FileSource):
    """A sector's file."""

    def pread(self, offset: int, length: int) -> bytes:
        data = super().pread(offset, length)
        READS.note(len(data))
        return data
