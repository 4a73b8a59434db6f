"""The staging folder of a mount: what is in it, and what becomes of it when a mount has died."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fusefs.errors import MountError, NameTaken, NoRoom, NotAllowed, NotWhole
from fusefs.staging import Staging, of_os_error
from fusefs.tree import RenderedFile


def entry() -> RenderedFile:
    return RenderedFile(lambda: b"", lambda: 0)


def left_behind(base: Path) -> None:
    """What a mount leaves that was killed."""
    text = f"""if True:
        import os
        from pathlib import Path
        from fusefs.staging import Staging
        staging = Staging(Path({str(base)!r}))
        fd, path = staging.new_file()
        os.write(fd, b'half')
        (staging.new_tree(b'tree') / 'file').write_text('whole')
        os._exit(9)
    """
    subprocess.run([sys.executable, "-c", text], check=False)


def test_nothing_is_made_until_something_is_staged_and_nothing_stays(tmp_path: Path) -> None:
    staging = Staging(tmp_path)
    assert list(tmp_path.iterdir()) == []
    fd, path = staging.new_file()
    os.close(fd)
    assert path.is_relative_to(tmp_path)
    staging.close()
    assert list(tmp_path.iterdir()) == []


def test_what_a_dead_mount_had_is_removed_but_for_its_trees(tmp_path: Path) -> None:
    left_behind(tmp_path)
    left_behind(tmp_path)
    staging = Staging(tmp_path)
    found = staging.take_over()
    assert [name for name, _ in found] == [b"tree", b"tree-2"]
    assert [(path / "file").read_text() for _, path in found] == ["whole", "whole"]
    assert len(list(tmp_path.iterdir())) == 1
    staging.close()  # there are trees in it: the next mount finds them
    assert [name for name, _ in Staging(tmp_path).take_over()] == [b"tree", b"tree-2"]


def test_what_a_mount_that_lives_has_is_its_own(tmp_path: Path) -> None:
    living = Staging(tmp_path)
    living.new_tree(b"tree")
    assert Staging(tmp_path).take_over() == []
    living.close()


def test_a_name_is_one_thing_s(tmp_path: Path) -> None:
    staging, one, two = Staging(tmp_path), entry(), entry()
    staging.put(b"a", one)
    with pytest.raises(NameTaken):
        staging.put(b"a", two)
    staging.put(b"b", two)
    with pytest.raises(NameTaken):
        staging.rename(b"a", b"b")
    staging.rename(b"a", b"c")
    staging.remove(b"b", one)  # which it is not
    assert staging.entries() == {b"b": two, b"c": one}


def test_a_folder_that_is_not_there_is_no_place_to_copy_to(tmp_path: Path) -> None:
    with pytest.raises(NotAllowed):
        Staging(tmp_path / "none").new_file()
    assert Staging(tmp_path / "none").take_over() == []
    assert Staging(tmp_path / "none").free_bytes() == (0, 0)


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.ENOSPC, NoRoom), (errno.EDQUOT, NoRoom), (errno.EACCES, NotAllowed), (errno.EIO, NotWhole)],
)
def test_errors_of_the_disk_are_those_of_the_copy(number: int, kind: type[MountError]) -> None:
    assert type(of_os_error(OSError(number, os.strerror(number)))) is kind
