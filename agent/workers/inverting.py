"""The tasks of the inverted index: `invert` makes a segment, `check-inverted` compares segments with shard indices.

`invert` takes `{"directory", "name", "generation", "shards": [{"key", "generation", "checksum", "path"}…], "segments":
[{"name", "size", "generation", "dead": [number…]}…]}` and writes the segment `name` of all of them but the dead. Gives
`{"size", "damaged": [[place, message]…], "failed": [[place, class, message]…]}`: which segments and which shards were
left out and why. A place is one among `segments` or `shards`; `size` is 0 where nothing was left to write.
"""

from __future__ import annotations

import errno
from collections.abc import Container, Sequence
from pathlib import Path

from agent.dagstore import index_files
from agent.dagstore.failures import ErrorClass, class_of_os_error
from agent.dagstore.inverted import builder, verification
from agent.dagstore.inverted.builder import Source, SourceFailed
from agent.dagstore.inverted.segment import Damaged, Member, mapped, read_directory
from agent.workers.messages import Params
from agent.workers.tasks import Progress


def invert(params: Params, progress: Progress, _fetch: object = None) -> Params:
    """Makes a segment; raises OSError where it cannot be written."""
    directory = Path(params["directory"])
    segments, shards = params["segments"], params["shards"]
    left_out: dict[int, tuple[ErrorClass, str]] = {}  # by place: segments first
    while True:
        try:
            sources = _open(directory, segments, shards, left_out)
            size = 0
            if any(source.members for source in sources):
                out = directory / params["name"]
                size, _ = builder.build(out, params["generation"], sources, progress)
            break
        except SourceFailed as error:
            left_out[error.source] = (_class_of(error.error), str(error))
    damaged = [[place, why] for place, (_, why) in left_out.items() if place < len(segments)]
    failed = [
        [place - len(segments), error_class.value, why]
        for place, (error_class, why) in left_out.items()
        if place >= len(segments)
    ]
    return {"size": size, "damaged": damaged, "failed": failed}


def check_inverted(params: Params, progress: Progress, _fetch: object = None) -> Params:
    """Compares; takes what `invert` takes but for `name` and `generation`, with `live` shards by place and number.

    Gives `{"problems": [[key or null, name of the segment, message]…]}`.
    """
    problems = verification.problems(
        Path(params["directory"]), params["segments"], params["shards"], progress
    )
    return {"problems": [list(problem) for problem in problems]}


def _open(
    directory: Path, segments: Sequence[Params], shards: Sequence[Params], left_out: Container[int]
) -> list[Source]:
    sources: list[Source] = []
    number = 0
    for place, segment in enumerate(segments):
        if place not in left_out:
            source = _of_segment(place, directory, segment, number)
            number += len(source.members)
            sources.append(source)
    for place, shard in enumerate(shards, len(segments)):
        if place not in left_out:
            _verify(place, shard)
            member = Member(shard["key"], shard["generation"], shard["checksum"], 0)
            sources.append(Source.of_index(place, Path(shard["path"]), member, number))
            number += 1
    return sources


def _of_segment(place: int, directory: Path, segment: Params, first: int) -> Source:
    path = directory / segment["name"]
    try:
        with mapped(path, segment["size"]) as data:
            found = read_directory(data, segment["generation"])
    except Damaged as error:
        raise SourceFailed(place, OSError(errno.EIO, str(error))) from error
    numbers = builder.renumbered(len(found.members), segment["dead"], first)
    return Source.of_segment(place, path, found, numbers)


def _verify(place: int, shard: Params) -> None:
    """Raises SourceFailed unless the index file is the one that was made."""
    try:
        problem = index_files.damage(Path(shard["path"]), shard["checksum"]) if shard["checksum"] else ""
    except OSError as error:
        raise SourceFailed(place, error) from error
    if problem:
        raise SourceFailed(place, OSError(errno.EIO, problem))


def _class_of(error: Exception) -> ErrorClass:
    return class_of_os_error(error) if isinstance(error, OSError) else ErrorClass.CORRUPT
