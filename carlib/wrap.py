"""A CAR made into an indexed CARv2: header, the payload as it lies, and an index of it.

Source: CARv2; go-car's ``WrapV1`` writes the same bytes.  Padding behind the data is left out.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import BinaryIO, Final

from carlib import durable, indexing
from carlib.header import PRAGMA, V2_PREFIX_BYTES, V2Header
from carlib.index import MULTIHASH_INDEX_SORTED
from carlib.limits import MIB
from carlib.source import ByteSource, FileSource

_PIECE: Final = MIB


def wrap(
    path: Path,
    out: Path,
    *,
    codec: int = MULTIHASH_INDEX_SORTED,
    progress: indexing.Progress | None = None,
) -> indexing.IndexReport:
    """Write the CAR at ``path`` (either version; an index in it is not looked at) as an indexed CARv2 to ``out``.

    ``out`` appears complete and durable or not at all, and may be ``path``.  Raises CarError, OSError.
    """
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=durable.TEMPORARY_PREFIX) as folder:
        index = Path(folder) / "index"
        report = indexing.build(path, index, codec=codec, progress=progress)
        with FileSource(path) as source, index.open("rb") as built, durable.replacing(out) as file:
            header = V2Header(V2_PREFIX_BYTES, report.data_size, V2_PREFIX_BYTES + report.data_size)
            file.write(PRAGMA + header.encode())
            _copy(source, report.data_offset, report.data_size, file)
            shutil.copyfileobj(built, file, _PIECE)
    return report


def _copy(source: ByteSource, offset: int, size: int, out: BinaryIO) -> None:
    for start in range(offset, offset + size, _PIECE):
        out.write(source.pread(start, min(_PIECE, offset + size - start)))
