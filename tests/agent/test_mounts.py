"""A mount's URL stands for the same data for ever, whatever bytes its path is made of."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.dagstore import mounts
from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.mounts import FileMount

NAMES = st.binary(min_size=1, max_size=200).filter(lambda name: b"\0" not in name)


@given(NAMES)
def test_m5_any_path_survives_being_stored_as_a_url(name: bytes) -> None:
    """`file://%2Ftmp%2Fx` was stored and could not be read back; the shard was gone after a restart."""
    mount = FileMount.at(b"/" + name)
    assert mount.url.isascii()
    assert mounts.parse(mount.url) == mount
    assert mounts.parse(mount.url).url == mount.url


@pytest.mark.parametrize(
    "name",
    [b"a b", b"50%", b"%41", b"#1", b"what?", b"\xff\xfe", "é".encode(), b"a\nb", b"x;y=&", b"~", b"a:b"],
)
def test_m6_odd_names_reach_their_file(name: bytes, tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/" + name
    Path(os.fsdecode(path)).write_bytes(b"12345")
    for given_path in (os.fsdecode(path), os.fsdecode(name), FileMount.at(path).url):
        mount = mounts.resolve(given_path, directory=tmp_path)
        assert FileMount.parse(mount.url).stat().size == 5


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("x.car", "file:///base/x.car"),
        ("sub/../x.car", "file:///base/sub/../x.car"),
        ("/abs/x.car", "file:///abs/x.car"),
        ("file:///abs/x%20y.car", "file:///abs/x%20y.car"),
        ("file://localhost/abs", "file:///abs"),
        ("FILE:///abs", "file:///abs"),
        ("file:/abs", "file:///abs"),
        ("file:///a?b#c", "file:///a%3Fb%23c"),
        ("a:b.car", "file:///base/a%3Ab.car"),
        ("file:name", "file:///base/file%3Aname"),
    ],
)
def test_what_people_write_becomes_a_canonical_url(text: str, url: str) -> None:
    assert mounts.resolve(text, directory=Path("/base")).url == url


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gopher://host/x", "no mount for the scheme 'gopher'"),
        ("file://host/x", "names the host 'host'; a file URL has three slashes"),
        ("file:///a%00b", "not an absolute path"),
        ("", "empty path"),
        ("file:///" + "x" * 40_000, "at most"),
        ("x" * 5000, "a path of 5006 bytes; the system allows 4095"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_reason(text: str, message: str) -> None:
    with pytest.raises(ShardError, match=message) as raised:
        mounts.resolve(text, directory=Path("/base"))
    assert raised.value.error_class is ErrorClass.INVALID


def test_a_relative_path_needs_to_know_from_where() -> None:
    with pytest.raises(ShardError, match=r"'x\.car' is neither a URL nor an absolute path") as raised:
        mounts.resolve("x.car")
    assert raised.value.error_class is ErrorClass.INVALID


@given(st.text(max_size=50))
def test_any_text_is_a_mount_or_a_refusal(text: str) -> None:
    try:
        mount = mounts.resolve(text, directory=Path("/base"))
    except ShardError:
        return
    assert mounts.parse(mount.url) == mount


def test_a_file_that_is_not_there_is_gone(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="No such file") as raised:
        FileMount(tmp_path / "none").stat()
    assert raised.value.error_class is ErrorClass.GONE


def test_what_is_not_a_regular_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")  # opening it would wait for a writer
    for path in (tmp_path, tmp_path / "fifo", Path("/dev/zero")):
        with pytest.raises(ShardError, match="not a regular file") as raised:
            FileMount(path).stat()
        assert raised.value.error_class is ErrorClass.INVALID


def test_a_fingerprint_tells_what_changed(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"1")
    before = FileMount(path).stat()
    assert before.differs_from(FileMount(path).stat()) == ""
    os.utime(path, ns=(0, before.mtime_ns + 1))
    changed = FileMount(path).stat()
    assert before.differs_from(changed) == f"mtime_ns {before.mtime_ns} -> {before.mtime_ns + 1}"
