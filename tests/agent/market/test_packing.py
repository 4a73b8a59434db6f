"""Where pieces go, and the bytes that are written there."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.dagstore.failures import ShardError
from agent.market.packing import Sector, room
from agent.market.transitions import ENDED, RESTING, TABLE, Event, State, step
from agent.workers.padding import add_piece
from carlib.piece.commitment import commit, pad_piece
from carlib.piece.fr32 import Padder
from carlib.piece.sector import Placement, open_piece
from carlib.source import FileSource
from tests.agent.stores import FromThread

SIZES = st.sampled_from([128 << power for power in range(6)])


@given(st.lists(SIZES, max_size=40))
def test_pieces_lie_at_multiples_of_their_size_and_never_over_each_other(sizes: list[int]) -> None:
    sectors: dict[int, Sector] = {}
    taken: list[tuple[int, Placement]] = []
    for size in sizes:
        sector, place = room([sectors[number] for number in sorted(sectors)], size, 4096)
        assert place.offset % size == 0 and place.end <= sector.size == 4096 and place.end == sector.used
        assert all(number != sector.number or other.end <= place.offset for number, other in taken)
        sectors[sector.number] = sector
        taken.append((sector.number, place))
    assert sorted(sectors) == list(range(1, len(sectors) + 1))


def test_the_table_leads_everywhere_and_names_are_go_fil_markets() -> None:
    assert {state for state, _ in TABLE} | set(TABLE.values()) == set(State)
    assert all(state.value.startswith("StorageDeal") for state in State)
    for state in State:
        if state not in RESTING:
            assert step(state, Event.FAIL) is State.ERROR
    for state in ENDED:
        assert {event for event in Event if step(state, event)} <= {Event.AGAIN, Event.EXPIRE}


def added(path: Path, data: bytes, *, offset: int, size: int, piece: str = "") -> int:
    (path / "a.car").write_bytes(data)
    due = piece or str(pad_piece(commit(data), size).v1)
    params = {
        "path": str(path / "a.car"), "piece": due, "file": str(path / "sector"), "offset": offset, "size": size
    }  # fmt: skip
    return int(add_piece(params, lambda _done, _total: None, FromThread(None))["payload"])


@pytest.mark.parametrize("length", [65, 127, 128, 1000, 127 * 8192, 127 * 8192 + 1, 3_000_000])
def test_a_piece_is_padded_into_its_place_and_read_back(tmp_path: Path, length: int) -> None:
    data = bytes(range(256)) * (length // 256 + 1)
    data = data[:length]
    size = pad_piece(commit(data), commit(data).padded_size).padded_size
    assert added(tmp_path, b"first" * 20, offset=0, size=size) == 100
    assert added(tmp_path, data, offset=size, size=size) == length
    padder = Padder()
    padded = padder.feed(data) + padder.finish()
    whole = (tmp_path / "sector").read_bytes()
    assert whole[size:] == padded + bytes(size - len(padded)) and len(whole) == 2 * size
    with FileSource(tmp_path / "sector") as sector:
        assert open_piece(sector, Placement(size, size), length).peek(0, length) == data


def test_a_piece_may_be_bigger_than_its_data(tmp_path: Path) -> None:
    assert added(tmp_path, b"x" * 100, offset=0, size=4096) == 100
    assert (tmp_path / "sector").stat().st_size == 4096


def test_another_piece_leaves_the_sector_as_it_was(tmp_path: Path) -> None:
    added(tmp_path, b"first" * 20, offset=0, size=128)
    before = (tmp_path / "sector").read_bytes()
    other = str(commit(b"other" * 20).v1)
    with pytest.raises(ShardError, match="is not the piece"):
        added(tmp_path, b"x" * 100, offset=128, size=128, piece=other)
    with pytest.raises(ShardError, match="room for 127"):
        added(tmp_path, b"x" * 200, offset=128, size=128, piece=other)
    assert (tmp_path / "sector").read_bytes() == before


def test_what_a_killed_attempt_has_left_is_not_in_the_next_piece(tmp_path: Path) -> None:
    added(tmp_path, b"first" * 20, offset=0, size=128)
    with (tmp_path / "sector").open("ab") as sector:
        sector.write(b"\xff" * 1000)
    added(tmp_path, b"x" * 10, offset=128, size=128)
    padder = Padder()
    padded = padder.feed(b"x" * 10) + padder.finish()
    assert (tmp_path / "sector").read_bytes()[128:] == padded
