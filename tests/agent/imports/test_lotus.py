"""The imports of a Lotus node: which must be imported anew, in the words of its log."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.dagstore.failures import ErrorClass
from agent.imports import lotus
from carlib.references.packing import pack_references
from tests.agent.imports.worlds import raising, tree_at

LACKS = "import lacks carv2 path; import will not work; please reimport"
BROKEN = "import has missing/broken carv2; please reimport"


@pytest.fixture
def described(tmp_path: Path) -> dict[int, object]:
    """What Lotus' database says of four imports, the first of which is good."""
    source = tree_at(tmp_path / "set")
    root = pack_references(source, tmp_path / "1.car").root
    (tmp_path / "2.car").write_bytes(b"")
    labels = {"source": "import", "root": str(root), "filename": str(source), "car_owner": "importmgr"}
    return {
        1: {"Labels": {**labels, "car_path": str(tmp_path / "1.car")}},
        2: {"Labels": {**labels, "car_path": str(tmp_path / "2.car")}},
        3: {"Labels": {**labels, "car_path": str(tmp_path / "3.car")}},
        4: {"Labels": {"source": "unknown"}},
    }


def verdicts(found: lotus.LotusImports) -> list[tuple[int, str, bool]]:
    return [(one.id, one.line.partition(" {")[0], one.reimport) for one in found.imports]


EXPECTED = [(1, "import ok", False), (2, BROKEN, True), (3, BROKEN, True), (4, LACKS, True)]


def test_files_named_by_number_are_read(tmp_path: Path, described: dict[int, object]) -> None:
    folder = tmp_path / "lotus"
    folder.mkdir()
    for number, value in described.items():
        (folder / (f"{number}.json" if number % 2 else f"{number}")).write_text(json.dumps(value))
    (folder / "README").write_text("no import")
    found = lotus.check(folder)
    assert verdicts(found) == EXPECTED
    assert (found.broken, found.total) == (3, 4)
    assert found.lines[0] == "sanity checking imports"
    assert found.lines[-1] == 'sanity check completed {"broken": 3, "total": 4}'


@pytest.mark.parametrize("form", ["key and value", "object", "plain", "text in text"])
def test_lines_of_every_form_are_read(tmp_path: Path, described: dict[int, object], form: str) -> None:
    lines = []
    for number, value in described.items():
        key = f"/client/stores/{number}"
        lines.append(
            {
                "key and value": json.dumps({"Key": key, "Value": value}),
                "object": json.dumps({key: value}),
                "plain": f"{key} {json.dumps(value)}",
                "text in text": json.dumps({"Key": f"/stores/{number}", "Value": json.dumps(value)}),
            }[form]
        )
    (tmp_path / "dump").write_text("\n".join([*lines, ""]))
    assert verdicts(lotus.check(tmp_path / "dump")) == EXPECTED


def test_a_source_that_changed_is_told(tmp_path: Path, described: dict[int, object]) -> None:
    (tmp_path / "set" / "file0").unlink()
    (tmp_path / "dump").write_text(json.dumps({"/client/stores/1": described[1]}))
    (one,) = lotus.check(tmp_path / "dump").imports
    assert one.reimport
    assert f"{tmp_path}/set/file0: NO_FILE" in one.line


def test_what_is_no_json_is_skipped_as_lotus_does_it(tmp_path: Path) -> None:
    (tmp_path / "dump").write_text("/client/stores/5 {nonsense\n")
    (one,) = lotus.check(tmp_path / "dump").imports
    assert one.line.startswith("failed to query metadata for import; skipping")


def test_what_describes_no_import_is_refused(tmp_path: Path) -> None:
    (tmp_path / "dump").write_text("nonsense\n")
    with raising(ErrorClass.INVALID):
        lotus.check(tmp_path / "dump")
    with raising(ErrorClass.GONE):
        lotus.check(tmp_path / "none")
