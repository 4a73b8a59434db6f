"""The imports of a Lotus node: which of them work, and which must be imported anew. May block: for a worker.

Lotus keeps them in its database, under `/client/stores/ID` (`/stores/ID` in its own namespace), as
`{"Labels": {"source", "root", "filename", "car_path", "car_owner"}}`. Nobody but Lotus reads that database, so they
come as what its tools print:

- a folder with a file for each, named `ID` or `ID.json`;
- a file of lines, each `{"Key": "/client/stores/ID", "Value": {"Labels": …}}`, `{"/client/stores/ID": {"Labels": …}}`
  or `/client/stores/ID {"Labels": …}`; a value may also be a string that holds the JSON.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from agent.dagstore.failures import ErrorClass, ShardError, class_of_os_error
from agent.imports import wording
from carlib.blockstore import ReadOnlyBlockstore
from carlib.errors import CarError

MAX_LINE_BYTES = 1 << 20
_KEY = re.compile(r"(?:.*/)?([0-9]{1,20})(?:\.json)?")
_FOLDER = Path("/")  # what Lotus' references are relative to


class Labels(msgspec.Struct, frozen=True):
    """What Lotus says of an import; all may be missing."""

    source: str = ""
    root: str = ""
    filename: str = ""
    car_path: str = ""
    car_owner: str = ""


class LotusImport(msgspec.Struct, frozen=True, rename="pascal"):
    """One import, and what there is to say of it."""

    id: int = msgspec.field(name="ID")
    reimport: bool
    line: str  # as Lotus' log would have it
    level: str  # "info" or "warn"
    source: str
    root: str
    file_path: str
    car_path: str = msgspec.field(name="CARPath")
    car_owner: str = msgspec.field(name="CAROwner")


class LotusImports(msgspec.Struct, frozen=True, rename="pascal"):
    """All of them, and the lines in which Lotus would say it."""

    imports: tuple[LotusImport, ...]
    broken: int
    total: int
    lines: tuple[str, ...]


class _Value(msgspec.Struct, frozen=True):
    labels: Labels = msgspec.field(name="Labels", default=Labels())


def check(path: Path) -> LotusImports:
    """Looks at all imports that are described at `path`; raises ShardError if that cannot be read."""
    try:
        found = [_checked(number, value) for number, value in sorted(_described(path))]
    except OSError as error:
        raise ShardError(class_of_os_error(error), f"{error.filename}: {error.strerror}") from error
    broken = sum(one.reimport for one in found)
    end = wording.line(wording.END, broken=broken, total=len(found))
    return LotusImports(tuple(found), broken, len(found), (wording.BEGIN, *(one.line for one in found), end))


def _described(path: Path) -> Iterator[tuple[int, bytes]]:
    if path.is_dir():
        for file in path.iterdir():
            match = _KEY.fullmatch(file.name)
            if match is not None and file.is_file():
                yield int(match[1]), file.read_bytes()
        return
    with path.open("rb") as lines:
        number = 0
        while line := lines.readline(MAX_LINE_BYTES):
            number += 1
            if line.strip():
                yield _entry(line.strip(), f"{path}, line {number}")


def _entry(line: bytes, where: str) -> tuple[int, bytes]:
    if line.startswith(b"/"):
        key, _, value = line.decode(errors="replace").partition(" ")
        return _number(key, where), value.strip().encode()
    try:
        entry: Any = msgspec.json.decode(line)  # as the tool that wrote it has it
        key, value = (
            (entry["Key"], entry["Value"])
            if "Key" in entry and "Value" in entry
            else next(iter(entry.items()))
        )
    except (msgspec.DecodeError, TypeError, AttributeError, StopIteration) as error:
        raise ShardError(ErrorClass.INVALID, f"{where}: no import of Lotus is described here") from error
    return _number(key, where), value.encode() if isinstance(value, str) else msgspec.json.encode(value)


def _number(key: object, where: str) -> int:
    match = _KEY.fullmatch(key) if isinstance(key, str) else None
    if match is None:
        raise ShardError(ErrorClass.INVALID, f"{where}: {key!r} is not the key of an import")
    return int(match[1])


def _checked(number: int, value: bytes) -> LotusImport:
    try:
        labels = msgspec.json.decode(value, type=_Value).labels
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return _result(number, Labels(), wording.NO_METADATA, error=str(error))
    if not labels.car_path:
        return _result(number, labels, wording.LACKS_CAR)
    try:
        size = Path(labels.car_path).stat().st_size
        problem = _problem(Path(labels.car_path))
    except OSError as error:
        return _result(number, labels, wording.BROKEN_CAR, error=f"{labels.car_path}: {error.strerror}")
    except CarError as error:
        return _result(number, labels, wording.BROKEN_CAR, error=str(error))
    if problem:
        return _result(number, labels, wording.BROKEN_CAR, error=problem)
    return _result(number, labels, wording.OK, size=size)


def _problem(car: Path) -> str:
    """What of a CAR, or of the files that it refers to, is not well; "": nothing. For a worker: the agent, which needs
    the values above alone, would carry numpy about for it."""
    from carlib.references.checking import check_import
    from carlib.references.target import Status

    with ReadOnlyBlockstore.open(car) as store:
        if not store.roots:
            return "it has no root"
    verdict = check_import(car, _FOLDER, suspects=False)
    if verdict.damage:
        return f"{verdict.damage[0].part.value}: {verdict.damage[0].error}"
    for file in verdict.troubled:
        if file.status is not Status.OK:
            return f"/{file.target.path.decode(errors='backslashreplace')}: {file.status.name}"
    return ""


def _result(number: int, labels: Labels, message: str, **more: object) -> LotusImport:
    is_ok = message == wording.OK
    fields: dict[str, object] = {"id": number}
    if message != wording.NO_METADATA:
        fields = wording.about(number, labels.source, labels.root, labels.filename)
    return LotusImport(
        id=number,
        reimport=not is_ok,
        line=wording.line(message, **fields, **more),
        level="info" if is_ok else "warn",
        source=labels.source,
        root=labels.root,
        file_path=labels.filename,
        car_path=labels.car_path,
        car_owner=labels.car_owner,
    )
