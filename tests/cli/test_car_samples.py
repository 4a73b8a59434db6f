"""`carfs car …` on sample CARs of other implementations: the same words, the same bytes, the stated errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agent.cli.exits import Exit
from agent.cli.main import main
from tests.fixtures import FOLDER, PRESENT, fixture, needs_fixtures

Capture = pytest.CaptureFixture[str]

GO_CAR = "ipld+go-car/v2/testdata"
TOOL = "ipld+go-car/cmd/car/testdata/inputs"
BASIC = "ipld+ipld/specs/transport/car/fixture"
MADE = "generated-with-go-car"

V2_LINES = """\
Characteristics: 00000000000000000000000000000000
Data offset: 51
Data (payload) length: 479907
Index offset: 479958
Index type: car-multihash-index-sorted
"""
REPORT = """\
Version: {version}
{v2}Roots: bafy2bzaced4ueelaegfs5fqu4tzsh6ywbbpfk3cxppupmxfdhbpbhzawfw5oy
Root blocks present in data: Yes
Block count: 1049
Min / average / max block length (bytes): 1 / 417 / 1342
Min / average / max CID length (bytes): 14 / 37 / 38
Block count per codec:
\traw: 6
\tdag-cbor: 1043
CID count per multihash:
\tidentity: 6
\tblake2b-256: 1043
"""

INVALID = {
    f"{GO_CAR}/sample-corrupt-pragma.car": "data ends inside",
    f"{GO_CAR}/sample-rootless-v42.car": "version 42 is not supported",
    f"{GO_CAR}/sample-v1-tailing-corrupt-section.car": "offset 479518: data ends inside a section",
    f"{GO_CAR}/sample-v2-corrupt-data-and-index.car": "data offset is out of range",
    f"{TOOL}/badheaderlength.car": "more than the maximum",
    f"{TOOL}/badsectionlength.car": "more than the maximum",
    f"{MADE}/rw-unfinalised.car": "not finalised",
    f"{MADE}/rw-unfinalised-empty.car": "not finalised",
    f"{MADE}/rw-unfinalised-padded.car": "not finalised",
    "filecoin-project+dagstore/testdata/files/junk.dat": "offset",
}


def go_car_stats() -> list[Any]:  # Any: JSON
    """What go-car's own `Inspect` said of the files made with it."""
    if not PRESENT:
        return []
    every = json.loads((FOLDER / MADE / "expected.json").read_text())
    return [one for one in every if one.get("Stats") and one["File"].endswith(".car")]


@pytest.mark.parametrize("full", [[], ["--full"]], ids=["quick", "full"])
@pytest.mark.parametrize(("name", "version"), [("sample-v1.car", 1), ("sample-wrapped-v2.car", 2)])
def test_inspect_prints_what_go_car_prints(name: str, version: int, full: list[str], capsys: Capture) -> None:
    assert main(["car", "inspect", *full, str(fixture(f"{GO_CAR}/{name}"))]) == Exit.DONE
    assert capsys.readouterr().out == REPORT.format(version=version, v2=V2_LINES if version == 2 else "")


def test_inspect_lists_several_roots_one_a_line(capsys: Capture) -> None:
    assert main(["car", "inspect", str(fixture(f"{BASIC}/carv1-basic/carv1-basic.car"))]) == Exit.DONE
    assert capsys.readouterr().out.splitlines()[1:4] == [
        "Roots:",
        "\tbafyreihyrpefhacm6kkp4ql6j6udakdit7g3dmkzfriqfykhjw6cad5lrm",
        "\tbafyreidj5idub6mapiupjwjsyyxhyhedxycv4vihfsicm2vt46o7morwlm",
    ]


@needs_fixtures
@pytest.mark.parametrize("expected", go_car_stats(), ids=lambda one: one["File"])
def test_inspect_counts_what_go_car_counts(expected: dict[str, Any], capsys: Capture) -> None:
    assert main(["car", "inspect", "--json", str(FOLDER / MADE / expected["File"])]) == Exit.DONE
    found, stats = json.loads(capsys.readouterr().out), expected["Stats"]
    names = {"version", "roots", "rootsPresent", "blockCount", "codecs", "multihashes"}
    names |= {"dataOffset", "dataSize", "indexOffset", "fullyIndexed"} if found["version"] == 2 else set()
    assert {name: found[name] for name in names} == {name: stats[name] or found[name] for name in names}
    assert list(found["blockLength"].values()) == stats["blockLen"]
    assert list(found["cidLength"].values()) == stats["cidLen"]


@pytest.mark.parametrize("name", ["carv1-basic", "carv2-basic"])
def test_ls_gives_the_offsets_of_the_specification(name: str, capsys: Capture) -> None:
    path = fixture(f"{BASIC}/{name}/{name}.car")
    assert main(["car", "ls", "--json", str(path)]) == Exit.DONE
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    expected = json.loads(path.with_suffix(".json").read_text())["blocks"]
    assert [(one["cid"], one["offset"], one["dataOffset"], one["size"]) for one in found] == [
        (one["cid"]["/"], one["offset"], one["blockOffset"], one["blockLength"]) for one in expected
    ]


def test_get_gives_the_block_that_go_car_gave(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    block = fixture(f"{TOOL}/bafy2bzacebohz654namrgmwjjx4qmtwgxixsd7pn4tlanyrc3g3hwj75hlxrw.block")
    assert main(["car", "get", str(fixture(f"{GO_CAR}/sample-v1.car")), block.stem]) == Exit.DONE
    assert capfdbinary.readouterr().out == block.read_bytes()


def test_index_and_wrapped_car_are_byte_for_byte_go_cars(tmp_path: Path) -> None:
    source = str(fixture(f"{GO_CAR}/sample-v1.car"))
    assert main(["car", "index", "create", source, str(tmp_path / "idx")]) == Exit.DONE
    assert main(["car", "index", source, str(tmp_path / "car")]) == Exit.DONE
    index = fixture(f"{GO_CAR}/sample-multihash-index-sorted.carindex")
    assert (tmp_path / "idx").read_bytes() == index.read_bytes()
    assert (tmp_path / "car").read_bytes() == fixture(f"{GO_CAR}/sample-wrapped-v2.car").read_bytes()


def test_extract_tells_what_is_missing_and_takes_the_rest(tmp_path: Path, capsys: Capture) -> None:
    source = str(fixture(f"{TOOL}/simple-unixfs-missing-blocks.car"))
    assert main(["car", "extract", source, "-o", str(tmp_path)]) == Exit.NOT_FOUND
    *told, summary = capsys.readouterr().err.splitlines()
    missing = [line.split(": ")[1] for line in told]
    assert summary == "extracted 6 file(s)"
    assert missing == ["b/4", "b/5/E.txt", "b/6"]
    assert (tmp_path / "c/9/I.txt").exists()


def test_ls_finds_a_name_in_a_sharded_directory(capsys: Capture) -> None:
    source = str(fixture(f"{TOOL}/wikipedia-cryptographic-hash-function.car"))
    assert main(["car", "ls", "--unixfs", source]) == Exit.NOT_FOUND  # an excerpt: other shards are absent
    assert "wiki/Cryptographic_hash_function" in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("command", ["ls", "inspect", "verify"])
@pytest.mark.parametrize(("name", "words"), INVALID.items(), ids=lambda value: Path(value).name)
def test_invalid_cars_give_the_stated_error_in_a_line(
    name: str, words: str, command: str, capsys: Capture
) -> None:
    assert main(["car", command, str(fixture(name))]) == Exit.CORRUPT
    shown = capsys.readouterr()
    assert words in (shown.out if command == "verify" else shown.err)
    assert command == "verify" or len(shown.err.splitlines()) == 1
