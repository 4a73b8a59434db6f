"""`carfs car list`, `get-block`, `get-dag`, `put-block` and `root`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.cli.car.nodes import decimal_size
from agent.cli.exits import Exit
from carlib import dagpb
from carlib.cid import DAG_PB, Cid
from tests.carlib.cars import car_v1, write_car
from tests.cli.cars import ALL, LEAVES, NODE, ROOT, cids, give, names, piped, roots, run

Capture = pytest.CaptureFixture[str]
Binary = pytest.CaptureFixture[bytes]


def test_list_shows_offsets_on_demand(small: Path, capsys: Capture) -> None:
    assert run("ls", "--offsets", small) == Exit.DONE
    offset = len(car_v1([], (ROOT,)))
    assert capsys.readouterr().out.splitlines()[0] == f"{offset:>12} {20:>9} raw      {LEAVES[0][0]}"


def test_list_verbose_says_what_a_node_is_and_what_it_is_not(tmp_path: Path, capsys: Capture) -> None:
    links = tuple(dagpb.PBLink(LEAVES[0][0], b"n%d" % number, 10**number) for number in range(4))
    bare = dagpb.PBLink(LEAVES[1][0], named=False, sized=False)
    blocks = [dagpb.encode(dagpb.PBNode(links, b"\x08\x01")), dagpb.encode(dagpb.PBNode((bare,))), b"\xff"]
    path = write_car(tmp_path / "a.car", [(Cid.of(block, DAG_PB), block) for block in blocks])
    assert run("list", "-v", path) == Exit.DONE
    leaf, other = LEAVES[0][0], LEAVES[1][0]
    assert capsys.readouterr().out.splitlines() == [
        f"dag-pb: {Cid.of(blocks[0], DAG_PB)}", "\t4 links. 2 bytes", f"\t\tn0[1 B] {leaf}", f"\t\tn1[10 B] {leaf}",
        f"\t\tn2[100 B] {leaf}", "\t\t(4 total)", "\tUnixfs Directory",
        f"dag-pb: {Cid.of(blocks[1], DAG_PB)}", "\t1 links. 0 bytes", f"\t\t<no name>[0 B] {other}",
        "\tnot interpretable as unixfs: there is no data",
        f"dag-pb: {Cid.of(blocks[2], DAG_PB)}", "\tnot interpretable as dag-pb: offset 0: unknown field or wire type "
        "in a node: tag 0xff",
    ]  # fmt: skip


def test_list_verbose_stops_at_a_corrupt_block(small: Path, capsys: Capture) -> None:
    small.write_bytes(small.read_bytes().replace(LEAVES[1][1], LEAVES[1][1][::-1]))
    assert run("list", small) == Exit.DONE
    assert run("list", "-v", small) == Exit.CORRUPT


def test_list_writes_to_a_file_when_it_is_complete(small: Path, capsys: Capture) -> None:
    assert run("list", small, "out.txt") == Exit.DONE
    assert (Path("out.txt").read_text().split(), capsys.readouterr().out) == (
        [str(cid) for cid, _ in ALL],
        "",
    )
    small.write_bytes(small.read_bytes()[:-1])
    assert run("list", small, "out.txt") == Exit.CORRUPT
    assert len(Path("out.txt").read_text().split()) == 5


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (9, "9 B"), (999, "999 B"), (1000, "1.0 kB"), (9949, "9.9 kB"), (9950, "10 kB"), (10_500, "10 kB"),
     (262_158, "262 kB"), (2_345_678, "2.3 MB"), (18 * 10**9, "18 GB"), (82_854_982, "83 MB")],
)  # fmt: skip
def test_sizes_of_links_are_written_as_by_go_car(size: int, text: str) -> None:
    assert decimal_size(size) == text


def test_get_block_takes_a_cid_and_no_path(small: Path, capfdbinary: Binary) -> None:
    assert run("gb", small, LEAVES[1][0]) == Exit.DONE
    assert capfdbinary.readouterr().out == LEAVES[1][1]
    assert run("get-block", small, LEAVES[1][0], "out") == Exit.DONE
    assert Path("out").read_bytes() == LEAVES[1][1]
    assert run("get-block", small, Cid.of(b"absent"), "none") == Exit.NOT_FOUND
    assert run("get-block", small, "a/b") == Exit.USAGE
    assert not Path("none").exists()


def test_get_dag_writes_depth_first_and_leaves_out_what_is_missing(small: Path, capsys: Capture) -> None:
    write_car(Path("holes.car"), [LEAVES[0], LEAVES[2], (ROOT, NODE)], (ROOT,))
    assert run("get-dag", "holes.car", "dag.car") == Exit.DONE
    assert cids("dag.car") == [ROOT, LEAVES[0][0], LEAVES[2][0]]
    assert capsys.readouterr().err == f"carfs: left out: block {LEAVES[1][0]} is not in holes.car\n"
    assert run("gd", "--strict", "holes.car", "strict.car") == Exit.NOT_FOUND
    assert run("get-dag", "holes.car", Cid.of(b"absent"), "strict.car") == Exit.NOT_FOUND
    assert not Path("strict.car").exists()


@pytest.mark.parametrize("version", ["1", "2"])
def test_get_dag_gives_a_pipe_what_it_gives_a_file(small: Path, version: str) -> None:
    assert run("get-dag", "--version", version, small, ROOT, "dag.car") == Exit.DONE
    assert piped("get-dag", "--version", version, "-", "-", stdin=small.read_bytes()) == (
        Exit.DONE, Path("dag.car").read_bytes(),
    )  # fmt: skip


def test_get_dag_takes_a_selector(small: Path, capsys: Capture) -> None:
    second = '{"i":{"i":1,">":{".":{}}}}'
    assert run("get-dag", "-s", second, small, "-o", "dag.car") == Exit.DONE
    assert cids("dag.car") == [ROOT, LEAVES[1][0]]
    assert run("get-dag", "-s", '{"x":{}}', small, "-o", "dag.car") == Exit.USAGE
    assert '"x" is not a known member' in capsys.readouterr().err


def test_put_block_makes_a_car_adds_to_it_and_keeps_its_version(
    small: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, (cid, data) in enumerate(LEAVES[:2]):
        give(monkeypatch, data)
        assert run("put-block", *(["--set-root"] if not number else []), "new.car") == Exit.DONE
        shown = capsys.readouterr()
        assert shown.out == f"{cid}\n"
        assert shown.err == f"{('Block added to existing', 'Created new')[not number]} CAR file: new.car\n"
    assert (cids("new.car"), roots("new.car")) == ([cid for cid, _ in LEAVES[:2]], (LEAVES[0][0],))
    assert run("verify", "new.car") == Exit.DONE
    assert run("put-block", "--set-root", "new.car") == Exit.REFUSED
    give(monkeypatch, b"x")
    assert run("put-block", "--version", "1", "new.car") == Exit.REFUSED
    assert "is a CARv2 and stays one" in capsys.readouterr().err


def test_put_block_checks_the_cid_that_is_given(
    small: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(monkeypatch, b"other")
    assert run("pb", "--cid", LEAVES[0][0], "new.car") == Exit.CORRUPT
    assert "CID mismatch" in capsys.readouterr().err
    assert run("pb", "--cid", LEAVES[0][0], "-c", "raw", "new.car") == Exit.USAGE
    assert "mutually exclusive" in capsys.readouterr().err
    assert not Path("new.car").exists()


def test_put_block_to_a_damaged_car_leaves_it_as_it_is(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small.write_bytes(small.read_bytes()[:-1])
    before = small.read_bytes()
    give(monkeypatch, b"more")
    assert run("put-block", small) == Exit.CORRUPT
    assert (small.read_bytes(), names()) == (before, ["a.car"])


def test_roots_are_printed_and_replaced(small: Path, capsys: Capture) -> None:
    assert run("root", small) == Exit.DONE
    assert capsys.readouterr().out == f"{ROOT}\n"
    assert run("root", "--set", LEAVES[0][0], small) == Exit.DONE
    assert run("root", "--set", LEAVES[0][0], "--set", LEAVES[1][0], small) == Exit.REFUSED
    assert "must match replacement header size" in capsys.readouterr().err
    assert roots(small) == (LEAVES[0][0],)
    assert (
        run("root", "--rewrite", "--set", LEAVES[0][0], "--set", LEAVES[1][0], "--json", small) == Exit.DONE
    )
    assert json.loads(capsys.readouterr().out) == [str(LEAVES[0][0]), str(LEAVES[1][0])]
    assert run("root", "--clear", "--rewrite", small) == Exit.DONE
    assert (roots(small), cids(small)) == ((), [cid for cid, _ in ALL])
