"""`carfs car filter`, `concat`, `dedup`, `split` and `diff`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.cli.car.splitting import Size
from agent.cli.exits import Exit
from carlib.cid import JSON, Cid
from tests.carlib.cars import car_v1, section, write_car
from tests.cli.cars import ALL, INLINE, LEAVES, NODE, ROOT, cids, names, piped, roots, run

Capture = pytest.CaptureFixture[str]
Binary = pytest.CaptureFixture[bytes]


def test_filter_keeps_order_and_identity_sections_and_says_what_it_does(small: Path, capsys: Capture) -> None:
    Path("wanted").write_text(f"{INLINE[0]}\n\n {LEAVES[1][0]} \n{INLINE[0]}\n")
    assert run("filter", "--cid-file", "wanted", small, "out.car") == Exit.DONE
    shown = capsys.readouterr()
    assert shown.out == "filtering to 2 cids\n"
    assert shown.err == f"duplicate cid: {INLINE[0]}\nwarning: no roots defined after filtering\n"
    assert cids("out.car") == [LEAVES[1][0], INLINE[0]]
    assert run("filter", "--inverse", "--cid-file", "wanted", small, "rest.car") == Exit.DONE
    assert (cids("rest.car"), roots("rest.car")) == ([LEAVES[0][0], LEAVES[2][0], ROOT], (ROOT,))
    assert run("filter", "--append", "--cid-file", "wanted", small, "rest.car") == Exit.DONE
    assert (cids("rest.car")[3:], roots("rest.car")) == ([LEAVES[1][0], INLINE[0]], (ROOT,))
    assert run("verify", "rest.car") == Exit.DONE


def test_filter_reads_cids_from_a_pipe_and_writes_to_one(small: Path) -> None:
    code, written = piped("filter", "--version", "1", str(small), "-", stdin=f"{ROOT}\n".encode())
    assert (code, written) == (Exit.DONE, car_v1([(ROOT, NODE)], (ROOT,)))


@pytest.mark.parametrize(
    "arguments", [("a.car", "-"), ("--append", "--version", "1", "a.car", "b.car"), ("-", "b.car"), ("a.car",),
                  ("a.car", "b.car", "-o", "c.car")],
)  # fmt: skip
def test_filter_says_what_cannot_be(arguments: tuple[str, ...], small: Path, capsys: Capture) -> None:
    assert run("filter", *arguments) == Exit.USAGE
    assert capsys.readouterr().err.splitlines()[-1].startswith("carfs: ")
    assert names() == ["a.car"]


def test_concat_joins_blocks_and_roots_once_each(small: Path) -> None:
    write_car(Path("b.car"), [LEAVES[0], LEAVES[0]], (LEAVES[0][0],))
    assert run("concat", "a.car", "b.car", "--version", "2", "-o", "out.car") == Exit.DONE
    assert (cids("out.car"), roots("out.car")) == ([cid for cid, _ in ALL], (ROOT, LEAVES[0][0]))
    assert run("verify", "out.car") == Exit.DONE
    expected = car_v1(ALL, (ROOT,)) + section(*LEAVES[0]) * 2
    assert (
        piped("concat", "--duplicates", "--roots", "first", "-", "b.car", stdin=small.read_bytes())[1]
        == expected
    )


def test_dedup_keeps_the_first_of_each_cid_or_multihash(small: Path, capsys: Capture) -> None:
    data = LEAVES[0][1]
    other = Cid.of(data, JSON)
    write_car(Path("twice.car"), [*ALL, (other, data), *ALL], (ROOT,))
    assert run("dedup", "twice.car", "out.car", "--json") == Exit.DONE
    assert json.loads(capsys.readouterr().out)["dropped"] == 5
    assert cids("out.car") == [*(cid for cid, _ in ALL), other]
    assert run("dedup", "--by-multihash", "--version", "1", "twice.car", "out.car") == Exit.DONE
    assert Path("out.car").read_bytes() == small.read_bytes()
    assert run("dedup", "twice.car", "-") == Exit.USAGE


def test_split_parts_fit_and_concat_makes_the_whole(small: Path, capsys: Capture) -> None:
    assert run("split", "--size", "225", small) == Exit.DONE
    parts = capsys.readouterr().out.split()
    assert parts == [f"a-{number:04}.car" for number in range(4)]
    assert all(Path(part).stat().st_size <= 225 for part in parts)
    assert piped("concat", *parts)[1] == small.read_bytes()


def test_split_may_go_depth_first(small: Path, capsys: Capture) -> None:
    assert (
        run("split", "--size", "1k", "--order", "dag", "--version", "2", "-o", "dag", "--json", small)
        == Exit.DONE
    )
    (part,) = json.loads(capsys.readouterr().out)
    assert part == {"path": "dag-0000.car", "size": Path("dag-0000.car").stat().st_size}
    assert cids("dag-0000.car") == [ROOT, *(cid for cid, _ in LEAVES)]


def test_split_leaves_nothing_behind_where_it_cannot_be(small: Path, capsys: Capture) -> None:
    assert run("split", "--size", "130", small) == Exit.REFUSED
    assert "choose a larger --size" in capsys.readouterr().err
    assert names() == ["a.car"]
    Path("a-0001.car").touch()
    assert run("split", "--size", "260", small) == Exit.REFUSED
    assert names() == ["a-0001.car", "a.car"]


@pytest.mark.parametrize(
    ("text", "size"), [("1", 1), ("512KiB", 512 << 10), ("1GB", 10**9), ("2 m", 2 << 20), ("31GiB", 31 << 30)]
)
def test_sizes_have_units(text: str, size: int) -> None:
    assert Size()(text) == size


@pytest.mark.parametrize("text", ["0", "-1", "x", "1 PB", "1.5G"])
def test_what_is_no_size_is_refused(text: str, small: Path) -> None:
    assert run("split", "--size", text, small) == Exit.USAGE


def test_diff_shows_both_sides_and_exits_with_one(small: Path, capsys: Capture) -> None:
    assert run("diff", small, small) == Exit.DONE
    write_car(Path("b.car"), LEAVES[:1], (LEAVES[0][0],))
    assert run("diff", "--only", "roots", "--only", "blocks", "b.car", small) == Exit.FAILED
    assert capsys.readouterr().out.splitlines() == [
        f"- root  {LEAVES[0][0]}", f"+ root  {ROOT}",
        f"+ block {LEAVES[1][0]} 20 B", f"+ block {LEAVES[2][0]} 20 B", f"+ block {ROOT} {len(NODE)} B",
    ]  # fmt: skip
    assert run("diff", "--json", "--only", "roots", "b.car", small) == Exit.FAILED
    assert json.loads(capsys.readouterr().out.splitlines()[0]) == {"side": "left", "root": str(LEAVES[0][0])}
