"""Index files have names that cannot collide or escape, and orphans are swept without touching what is not ours."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from agent.dagstore import index_files

KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=300)


@given(KEYS, st.integers(0, 2**63))
def test_any_key_gives_a_plain_name(key: str, generation: int) -> None:
    """M-6: the key was used as a file name as it was."""
    name = index_files.file_name(key, generation)
    assert name == Path(name).name
    assert len(name) < 100
    assert name == name.lower()


def test_keys_that_differ_in_case_only_have_different_files() -> None:
    names = {index_files.file_name(key, 1) for key in ("a", "A", "a/", "../a", "a\0")}
    assert len(names) == 5
    assert index_files.file_name("a", 1) != index_files.file_name("a", 2)


def test_a_sweep_removes_what_no_record_names_and_what_was_not_finished(tmp_path: Path) -> None:
    wanted, orphan = index_files.file_name("a", 2), index_files.file_name("a", 1)
    for name in (wanted, orphan, "README", "other.idx"):
        (tmp_path / name).write_bytes(b"x")
    index_files.sweep(tmp_path, {wanted})
    unfinished = index_files.scratch(tmp_path, orphan)
    unfinished.mkdir()
    (unfinished / ".carfs-tmp-x").write_bytes(b"x")
    assert index_files.sweep(tmp_path, {wanted}) == 1
    assert sorted(path.name for path in tmp_path.rglob("*")) == sorted(
        ["README", "building", "other.idx", wanted]
    )
    assert index_files.sizes(tmp_path) == {wanted: 1}


def test_discarding_what_is_not_there_is_no_error(tmp_path: Path) -> None:
    index_files.discard(tmp_path, index_files.file_name("a", 1))
