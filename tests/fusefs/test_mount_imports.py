"""`imports/` of a mount, read: imports by reference, dense ones and CARs, as they come, change and go."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from agent.client import AgentError, Client
from carlib.cid import Cid
from tests.fusefs.importing import World, sh, world
from tests.fusefs.mounts import contents, names_in
from tests.fusefs.test_mount_agent import eventually, running_agent

pytestmark = pytest.mark.fuse

MIB = 1 << 20


def import_path(path: Path, **more: object) -> int:
    return int(Client().call("Carfs.Import", {"Path": str(path), **more})["ID"])


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """A small directory with a file of four blocks of 1 MiB in it."""
    folder = tmp_path / "album"
    (folder / "sub").mkdir(parents=True)
    (folder / "big").write_bytes(b"".join(bytes([number]) * MIB for number in range(4)))
    (folder / "small").write_text("small\n")
    (folder / "empty").touch()
    (folder / "sub" / ".hidden").write_text("hidden\n")
    (folder / "sub" / "link").symlink_to("../small")
    return folder


def test_an_import_by_reference_shows_the_source_verified(tmp_path: Path, album: Path) -> None:
    with world(tmp_path) as here:
        import_path(album, Kind="ref")
        shown = here.imports / "album"
        eventually(shown.exists)
        assert sorted(names_in(shown)) == ["blocks", "data.car", "import.json", "root", "roots"]
        assert contents(shown / "root") == contents(album)
        assert list(here.document("album")["Absent"]) == ["data.v2.car"]
        assert os.getxattr(shown, "user.carfs.state") == b"ImportStateReady"
        assert os.getxattr(shown / "root" / "big", "user.carfs.verified") == b"on-read"
        assert os.getxattr(shown / "root" / "big", "user.carfs.mount") == album.as_uri().encode()


def test_blocks_of_an_import_by_reference_are_all_listed_and_match_their_cids(
    tmp_path: Path, album: Path
) -> None:
    with world(tmp_path) as here:
        import_path(album, Kind="ref")
        blocks = here.imports / "album" / "blocks"
        eventually(blocks.exists)
        listed = names_in(blocks)
        assert len(listed) == len(set(listed)) == here.document("album")["Blocks"]
        for name in listed:
            cid = Cid.parse(name)
            assert Cid.of((blocks / name).read_bytes(), cid.codec) == cid


def test_the_car_of_an_import_by_reference_is_rendered_with_its_leaves(tmp_path: Path, album: Path) -> None:
    with world(tmp_path) as here:
        import_path(album, Kind="ref")
        car = here.imports / "album" / "data.car"
        eventually(car.exists)
        copy = tmp_path / "copy.car"
        shutil.copyfile(car, copy)
        assert copy.stat().st_size == car.stat().st_size
        done = sh(
            f"carfs car verify --depth full --complete {copy} && carfs car extract {copy} -o out", tmp_path
        )
        assert done.returncode == 0
        assert contents(tmp_path / "out") == contents(album)
        whole = copy.read_bytes()
        with car.open("rb", buffering=0) as file:
            for offset in range(0, len(whole), 99_991):
                assert os.pread(file.fileno(), 777, offset) == whole[offset : offset + 777]


def test_dense_imports_and_cars_show_their_car_too(tmp_path: Path, album: Path) -> None:
    car = tmp_path / "two.car"
    sh(f"carfs car create --quiet {album / 'sub'} -o {car}", tmp_path)
    with world(tmp_path) as here:
        import_path(album, Kind="dense")
        import_path(car, Kind="car")
        eventually(lambda: here.names() == ["album", "two.car"])
        assert contents(here.imports / "album" / "root") == contents(album)
        for name in here.names():
            assert (
                sh(f"carfs car verify --quiet {here.imports / name / 'data.v2.car'}", tmp_path).returncode
                == 0
            )
        assert (here.imports / "two.car" / "root" / ".hidden").read_text() == "hidden\n"


def test_an_edited_block_is_eio_and_all_else_reads_on(tmp_path: Path, album: Path) -> None:
    with world(tmp_path) as here:
        import_path(album, Kind="ref")
        root = here.imports / "album" / "root"
        eventually(root.exists)
        with (album / "big").open("r+b") as file:
            file.seek(2 * MIB + 5)
            file.write(b"edited")
        with (root / "big").open("rb", buffering=0) as file:
            assert os.pread(file.fileno(), 4096, MIB) == b"\x01" * 4096
            with pytest.raises(OSError) as refused:
                os.pread(file.fileno(), 4096, 2 * MIB)
            assert refused.value.errno == errno.EIO
            assert os.pread(file.fileno(), 4096, 3 * MIB) == b"\x03" * 4096
        assert (root / "small").read_text() == "small\n"
        eventually(lambda: len(_faults(here, album / "big")) == 1)


def _faults(here: World, path: Path) -> list[str]:
    return [
        line
        for line in here.mount.lines
        if "import album" in line and "no longer" in line and str(path)[1:] in line
    ]


def test_a_source_that_was_put_back_reads_again(tmp_path: Path, album: Path) -> None:
    with world(tmp_path) as here:
        import_path(album, Kind="ref")
        small = here.imports / "album" / "root" / "small"
        eventually(small.exists)
        (album / "small").rename(tmp_path / "aside")
        with pytest.raises(OSError) as refused:
            small.read_bytes()
        assert refused.value.errno == errno.EIO
        (tmp_path / "aside").rename(album / "small")
        assert small.read_text() == "small\n"


def test_renaming_and_removing_by_others_is_followed(tmp_path: Path, album: Path) -> None:
    with world(tmp_path) as here:
        number = import_path(album, Kind="ref")
        eventually(lambda: here.names() == ["album"])
        with (here.imports / "album" / "root" / "small").open("rb") as file:
            Client().call("Carfs.RenameImport", {"Import": number, "Name": "holiday"})
            eventually(lambda: here.names() == ["holiday"])
            eventually(lambda: not (here.imports / "album").exists())
            assert file.read() == b"small\n"
            assert (here.imports / "holiday" / "root" / "small").read_text() == "small\n"
            with pytest.raises(AgentError) as refused:
                Client().call("Carfs.RemoveImport", {"Import": number})
            assert refused.value.error_class == "busy"
        eventually(lambda: _removed(number))
        eventually(lambda: here.names() == [])


def _removed(number: int) -> bool:
    try:
        Client().call("Carfs.RemoveImport", {"Import": number})
    except AgentError as error:
        assert error.error_class == "busy"
        return False
    return True


def test_reading_goes_on_while_the_agent_is_away(tmp_path: Path, album: Path) -> None:
    with world(tmp_path) as here:
        import_path(album, Kind="ref")
        import_path(album / "sub", Kind="dense", Name="sub")
        eventually(lambda: here.names() == ["album", "sub"])
        here.agent.send_signal(signal.SIGKILL)
        here.agent.wait(20)
        status = here.mount.path / ".carfs" / "status.json"
        eventually(lambda: json.loads(status.read_text())["Agent"]["Reachable"] is False)
        assert here.names() == ["album", "sub"]
        assert contents(here.imports / "album" / "root") == contents(album)
        assert (here.imports / "sub" / "root" / ".hidden").read_text() == "hidden\n"
        for command, number in (
            ("cp album/small mnt/imports/", errno.EHOSTDOWN),
            ("rmdir mnt/imports/sub", 0),
        ):
            done = sh(command, tmp_path, check=False)
            assert done.returncode == 1
            assert os.strerror(number or errno.EHOSTDOWN) in done.stderr
        with running_agent():
            eventually(lambda: json.loads(status.read_text())["Agent"]["Reachable"] is True)
            eventually(lambda: sh("rmdir mnt/imports/sub", tmp_path, check=False).returncode == 0)
            assert here.names() == ["album"]


def test_a_broken_import_shows_why_and_nothing_else(tmp_path: Path, album: Path) -> None:
    car = tmp_path / "one.car"
    sh(f"carfs car create --quiet {album / 'sub'} -o {car}", tmp_path)
    with world(tmp_path) as here:
        number = import_path(car, Kind="car")
        eventually(lambda: here.names() == ["one.car"])
        car.write_bytes(b"something else")
        assert Client().call("Carfs.GetImport", {"Import": number})["State"] == "ImportStateReady"
        list(Client().stream("Carfs.VerifyImport", {"Import": number}))
        eventually(lambda: here.state("one.car") == "ImportStateBroken")
        assert names_in(here.imports / "one.car") == ["import.json"]
        assert here.document("one.car")["Error"]
