"""`imports/` of a mount, written to by the programs that people write to directories with."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from carlib.cid import Cid
from tests.fusefs.importing import rpc_names, sh, staged, world
from tests.fusefs.mounts import contents, mounted, write_car
from tests.fusefs.test_mount_agent import eventually, running_agent

pytestmark = pytest.mark.fuse

HELLO = (Cid.of(b"hello\n"), b"hello\n")


@pytest.fixture
def album(tmp_path: Path) -> Path:
    folder = tmp_path / "album"
    (folder / "sub" / "deep").mkdir(parents=True)
    (folder / "picture").write_bytes(os.urandom(3_000_000))
    (folder / "sub" / "note").write_text("note\n")
    (folder / "sub" / "link").symlink_to("note")
    (folder / "sub" / ".hidden").touch()
    return folder


# ln -s


def test_a_link_returns_at_once_and_becomes_a_directory_that_fills(tmp_path: Path, album: Path) -> None:
    with world(tmp_path) as here:
        sh(f"ln -s {album} mnt/imports/set", tmp_path)
        assert (here.imports / "set" / "import.json").exists()
        eventually(lambda: here.state("set") == "ImportStateReady")
        assert here.document("set")["Kind"] == "ref"
        assert contents(here.imports / "set" / "root") == contents(album)


def test_a_relative_link_is_resolved_from_where_it_lies(tmp_path: Path, album: Path) -> None:
    with world(tmp_path) as here:
        sh("cd mnt/imports && ln -s ../../album/sub one && ln -sr ../../album two", tmp_path)
        assert here.names() == ["one", "two"]
        done = sh("ln -s album mnt/imports/three", tmp_path, check=False)
        assert os.strerror(errno.ENOENT) in done.stderr
        done = sh("ln -s one mnt/imports/three", tmp_path, check=False)
        assert os.strerror(errno.ELOOP) in done.stderr
        assert here.names() == ["one", "two"]


def test_a_link_to_a_car_is_the_car_in_place(tmp_path: Path) -> None:
    car = write_car(tmp_path / "greeting.car", [HELLO], [HELLO[0]])
    with world(tmp_path) as here:
        sh(f"ln -s {car} mnt/imports/greeting", tmp_path)
        eventually(lambda: here.state("greeting") == "ImportStateReady")
        assert here.document("greeting")["CARPath"] == str(car)
        assert (here.imports / "greeting" / "root").read_bytes() == HELLO[1]
        sh("rmdir mnt/imports/greeting", tmp_path)
        assert car.exists()


def test_a_name_that_is_taken_is_eexist(tmp_path: Path, album: Path) -> None:
    with world(tmp_path):
        sh("ln -s ../../album mnt/imports/set && mkdir mnt/imports/t", tmp_path)
        for command in (
            "ln -sT ../../album/sub mnt/imports/set", "ln -sT ../../album/sub mnt/imports/t",
            "mkdir mnt/imports/set", "mv -T mnt/imports/t mnt/imports/set",
        ):  # fmt: skip
            done = sh(command, tmp_path, check=False)
            assert "File exists" in done.stderr, command


# cp of a file


def test_a_copied_file_is_an_import_when_cp_ends(tmp_path: Path, album: Path) -> None:
    with world(tmp_path) as here:
        sh("cp album/picture mnt/imports/", tmp_path)
        assert here.state("picture") == "ImportStateReady"
        assert (here.imports / "picture" / "root").read_bytes() == (album / "picture").read_bytes()
        assert here.document("picture")["Kind"] == "dense"
        sh("cp -p album/sub/note mnt/imports/note && cmp album/sub/note mnt/imports/note/root", tmp_path)
        assert here.names() == rpc_names() == ["note", "picture"]
        assert not [name for name in staged() if "/files/" in name or name.startswith("import-")]


def test_a_copied_car_is_recognised_and_verified(tmp_path: Path) -> None:
    write_car(tmp_path / "good.car", [HELLO], [HELLO[0]])
    write_car(tmp_path / "bad.car", [(HELLO[0], b"hallo\n")], [HELLO[0]])
    with world(tmp_path) as here:
        sh("cp good.car mnt/imports/", tmp_path)
        assert here.document("good.car")["Kind"] == "car"
        assert (here.imports / "good.car" / "root").read_bytes() == HELLO[1]
        done = sh("cp bad.car mnt/imports/", tmp_path, check=False)
        assert (done.returncode, "Input/output error" in done.stderr) == (1, True)
        assert here.names() == rpc_names() == ["good.car"]
        assert any("bad.car" in line for line in here.mount.lines)


def test_the_same_content_again_is_eexist_at_close(tmp_path: Path, album: Path) -> None:
    with world(tmp_path) as here:
        sh("cp album/picture mnt/imports/one", tmp_path)
        done = sh("cp album/picture mnt/imports/two", tmp_path, check=False)
        assert "failed to close" in done.stderr
        assert "File exists" in done.stderr
        assert here.names() == ["one"]


def test_python_copies_with_times_and_permissions(tmp_path: Path, album: Path) -> None:
    with world(tmp_path) as here:
        shutil.copy2(album / "picture", here.imports)
        shutil.copy(album / "sub" / "note", here.imports / "n")
        assert here.names() == ["n", "picture"]
        assert (here.imports / "n" / "root").read_text() == "note\n"


def test_a_redirection_is_imported_when_the_last_command_has_closed_it(tmp_path: Path) -> None:
    with world(tmp_path) as here:
        sh("(/bin/echo one; /bin/echo two; /bin/echo three) > mnt/imports/lines", tmp_path)
        assert (here.imports / "lines" / "root").read_text() == "one\ntwo\nthree\n"
        sh("seq 1 100000 | tee mnt/imports/numbers > /dev/null; : > mnt/imports/nothing", tmp_path)
        assert (here.imports / "numbers" / "root").stat().st_size == 588_895
        assert (here.imports / "nothing" / "root").read_bytes() == b""


def test_a_name_is_there_while_it_is_copied_and_can_be_removed(tmp_path: Path) -> None:
    with world(tmp_path) as here:
        path = here.imports / "half"
        with path.open("wb", buffering=0) as file:
            file.write(b"some")
            assert here.names() == ["half"]
            assert (path.stat().st_size, path.read_bytes()) == (4, b"some")
            assert os.getxattr(path, "user.carfs.state") == b"copying"
            with pytest.raises(OSError) as refused:
                path.open("r+b")
            assert refused.value.errno == errno.EBUSY
            path.chmod(0o600)
            sh("rm mnt/imports/half", tmp_path)
            file.write(b"more")
        assert here.names() == rpc_names() == []


def test_who_reads_what_is_copied_does_not_keep_it_from_being_done(tmp_path: Path) -> None:
    with world(tmp_path) as here:
        path = here.imports / "note"
        with path.open("wb") as file:
            file.write(b"note")
            file.flush()
            with path.open("rb") as reading:
                reader = subprocess.Popen(["sleep", "100"], stdin=reading)
        try:
            assert here.state("note") == "ImportStateReady"
        finally:
            reader.kill()
            reader.wait()


def test_fifty_copies_at_once_are_fifty_imports(tmp_path: Path) -> None:
    for number in range(50):
        (tmp_path / f"f{number}").write_bytes(os.urandom(20_000) + bytes([number]))
    with world(tmp_path) as here:
        sh("for f in f*; do cp $f mnt/imports/ & done; wait", tmp_path)
        assert here.names() == sorted(f"f{number}" for number in range(50))
        for number in range(50):
            copied = here.imports / f"f{number}" / "root"
            assert copied.read_bytes() == (tmp_path / f"f{number}").read_bytes()


def writing(path: Path) -> subprocess.Popen[str]:
    """A program that has written a part, and waits; it has said so."""
    text = f"f = open({str(path)!r}, 'wb', 0); f.write(b'part'); print('written', flush=True); input()"
    program = subprocess.Popen(
        [sys.executable, "-c", text], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert program.stdout is not None
    assert program.stdout.readline() == "written\n"
    return program


def killed(program: subprocess.Popen[str]) -> None:
    program.kill()
    program.communicate()


def test_a_copy_that_is_killed_leaves_nothing(tmp_path: Path) -> None:
    with world(tmp_path) as here:
        killed(writing(here.imports / "part"))
        eventually(lambda: here.names() == [])
        assert rpc_names() == []
        assert not [name for name in staged() if "/files/" in name]


def test_a_mount_that_is_killed_leaves_no_file_and_no_half_of_a_tree_is_imported(
    tmp_path: Path, album: Path
) -> None:
    with running_agent():
        with mounted(tmp_path / "mnt", arguments=("--settle", "0.1")) as mount:
            sh("mkdir mnt/imports/tree", tmp_path)
            programs = [writing(mount.path / "imports" / name) for name in ("part", "tree/part")]
            mount.process.kill()
            mount.process.wait()
            for program in programs:
                killed(program)
        with mounted(tmp_path / "mnt", arguments=("--settle", "0.1")) as mount:
            imports = mount.path / "imports"
            assert not [name for name in staged() if "/files/" in name]
            assert [path.name for path in imports.iterdir()] == ["tree"]
            assert os.getxattr(imports / "tree", "user.carfs.state") == b"doubtful"
            sh("cp -rT album mnt/imports/tree && rm mnt/imports/tree/part", tmp_path)
            sh("mv mnt/imports/tree mnt/imports/whole", tmp_path)
            eventually((imports / "whole" / "root").exists)
            assert contents(imports / "whole" / "root") == contents(album)
            assert rpc_names() == ["whole"]


def test_an_agent_that_does_not_answer_holds_up_whoever_closes_and_nobody_else(
    tmp_path: Path, album: Path
) -> None:
    with world(tmp_path) as here:
        sh("cp album/sub/note mnt/imports/", tmp_path)
        with (here.imports / "note" / "root").open("rb") as note:
            assert os.pread(note.fileno(), 1, 0) == b"n"
            here.agent.send_signal(signal.SIGSTOP)
            with subprocess.Popen(["cp", "album/picture", "mnt/imports/"], cwd=tmp_path) as copy:
                try:
                    eventually(lambda: "picture" in here.names() and _is_closing(copy.pid))
                    assert (here.imports / "note" / "root").read_text() == "note\n"
                    assert copy.poll() is None
                finally:
                    here.agent.send_signal(signal.SIGCONT)
            assert copy.returncode == 0
        assert here.state("picture") == "ImportStateReady"


def test_an_agent_that_is_killed_in_the_middle_fails_the_copy_and_nothing_is_left(
    tmp_path: Path, album: Path
) -> None:
    with world(tmp_path) as here:
        here.agent.send_signal(signal.SIGSTOP)
        copy = subprocess.Popen(
            ["cp", "album/picture", "mnt/imports/"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
        )
        eventually(lambda: "picture" in here.names())
        eventually(lambda: _is_closing(copy.pid))
        here.agent.kill()
        here.agent.wait()
        _, said = copy.communicate(timeout=60)
        assert os.strerror(errno.EHOSTDOWN) in said
        assert here.names() == []
        with running_agent():
            assert rpc_names() == []
            assert not [name for name in staged() if "/files/" in name or "upload" in name]


def _is_closing(process: int) -> bool:
    """Whether it has let go of its copy already, and waits to be told how that went."""
    links = [fd.readlink() for fd in Path(f"/proc/{process}/fd").iterdir()]
    return not any(link.name == "picture" and link.parent.name == "imports" for link in links)


@pytest.mark.privileged
def test_a_full_disk_is_enospc_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = tmp_path / "small"
    small.mkdir()
    sh("mount -t tmpfs -o size=32m tmpfs small", tmp_path)
    try:
        monkeypatch.setenv("CARFS_PATH", str(small / "home"))
        (tmp_path / "big").write_bytes(os.urandom(40 << 20))
        (tmp_path / "twice").write_bytes(os.urandom(20 << 20))
        with world(tmp_path) as here:
            # The first does not fit; of the second there is room for the copy, and not for the import beside it.
            for name in ("big", "twice"):
                done = sh(f"cp {name} mnt/imports/", tmp_path, check=False)
                assert (done.returncode, os.strerror(errno.ENOSPC) in done.stderr) == (1, True), done.stderr
            assert here.names() == rpc_names() == []
            sh("echo small > mnt/imports/note", tmp_path)
            assert (here.imports / "note" / "root").read_text() == "small\n"
    finally:
        sh("umount small", tmp_path)


# Directories


def test_a_copied_tree_becomes_an_import_when_it_rests(tmp_path: Path, album: Path) -> None:
    with world(tmp_path, settle_s=0.5) as here:
        sh("cp -r album mnt/imports/set", tmp_path)
        eventually((here.imports / "set" / "root").exists)
        assert contents(here.imports / "set" / "root") == contents(album)
        assert not [name for name in staged() if "/trees/" in name]


def test_a_tree_does_not_rest_while_a_file_of_it_is_open_nor_when_it_is_empty(tmp_path: Path) -> None:
    with world(tmp_path, settle_s=0.1) as here:
        sh("mkdir mnt/imports/none mnt/imports/set", tmp_path)
        with (here.imports / "set" / "file").open("wb", buffering=0) as file:
            sh("sleep 1.5", tmp_path)
            file.write(b"late")
            assert rpc_names() == []
        eventually((here.imports / "set" / "root").exists)
        assert (here.imports / "set" / "root" / "file").read_bytes() == b"late"
        assert os.getxattr(here.imports / "none", "user.carfs.state") == b"copying"
        sh("rmdir mnt/imports/none", tmp_path)
        assert here.names() == ["set"]


def test_a_tree_is_imported_at_once_when_it_is_moved(tmp_path: Path, album: Path) -> None:
    with world(tmp_path) as here:
        sh("mkdir mnt/imports/t && tar -c -C album . | tar -x -C mnt/imports/t", tmp_path)
        assert contents(here.imports / "t") == contents(album)
        sh("mv mnt/imports/t mnt/imports/done", tmp_path)
        assert here.names() == ["done"]
        eventually((here.imports / "done" / "root").exists)
        assert contents(here.imports / "done" / "root") == contents(album)


def test_a_tree_is_a_directory_like_any_until_then(tmp_path: Path, album: Path) -> None:
    with world(tmp_path) as here:
        sh("cp -a album mnt/imports/t", tmp_path)
        script = """set -e
            cd mnt/imports/t
            mv sub moved; mv moved/note .; cat note; echo more >> note; ln note again; chmod 700 again
            truncate -s 10 picture; touch -d 2001-01-01 picture; rm moved/link; rmdir moved/deep; rm -r moved
            mkdir -p a/b; mv note a/b/; cp a/b/note a/b/note2; ln -s x a/dangling"""
        sh(script, tmp_path)
        tree = here.imports / "t"
        assert (tree / "a/b/note2").read_text() == (tree / "again").read_text() == "note\nmore\n"
        assert sorted(contents(tree)) == [
            "a",
            "a/b",
            "a/b/note",
            "a/b/note2",
            "a/dangling",
            "again",
            "picture",
        ]
        assert (tree / "picture").stat().st_size == 10
        assert int((tree / "picture").stat().st_mtime) == 978307200
        sh("rm -r mnt/imports/t", tmp_path)
        assert here.names() == rpc_names() == []


@pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not installed")
def test_rsync_copies_files_and_trees(tmp_path: Path, album: Path) -> None:
    with world(tmp_path) as here:
        sh("rsync -a album/ mnt/imports/t && rsync -ac album/ mnt/imports/t", tmp_path)
        sh("mv mnt/imports/t mnt/imports/done && rsync -a album/picture mnt/imports/", tmp_path)
        eventually((here.imports / "done" / "root").exists)
        assert contents(here.imports / "done" / "root") == contents(album)
        assert here.names() == ["done", "picture"]


def test_a_tree_in_which_a_program_was_killed_is_not_imported_by_itself(tmp_path: Path) -> None:
    with world(tmp_path, settle_s=0.1) as here:
        sh("mkdir mnt/imports/t", tmp_path)
        killed(writing(here.imports / "t" / "part"))
        eventually(lambda: os.getxattr(here.imports / "t", "user.carfs.state") == b"doubtful")
        sh("sleep 1.5", tmp_path)
        assert rpc_names() == []
        sh("mv mnt/imports/t mnt/imports/all-the-same", tmp_path)
        assert rpc_names() == ["all-the-same"]


def test_unmounting_imports_what_nobody_is_at_work_on(tmp_path: Path, album: Path) -> None:
    with running_agent():
        with mounted(tmp_path / "mnt", arguments=("--settle", "1000")) as mount:
            sh("cp -r album mnt/imports/set", tmp_path)
            assert mount.stop() == 0
        assert rpc_names() == ["set"]
        assert not [name for name in staged() if name.startswith("mount-")]


# mv, rmdir, and what is refused


def test_mv_renames_and_nothing_leaves_or_comes_in_by_it(tmp_path: Path, album: Path) -> None:
    with world(tmp_path) as here:
        sh("cp album/picture mnt/imports/a && mv mnt/imports/a mnt/imports/b", tmp_path)
        assert here.names() == rpc_names() == ["b"]
        assert (here.imports / "b" / "root").read_bytes() == (album / "picture").read_bytes()
        sh("mkdir mnt/imports/t && echo x > mnt/imports/t/x", tmp_path)
        for old, new, number in (
            ("imports/b", "shards/b", errno.EXDEV), ("imports/t/x", "imports/x", errno.EXDEV),
            ("imports/b", "b", errno.EROFS), ("imports/b", "imports/t/b", errno.EXDEV),
        ):  # fmt: skip
            with pytest.raises(OSError) as refused:
                (here.mount.path / old).rename(here.mount.path / new)
            assert refused.value.errno == number, (old, new)


def test_rmdir_drops_what_nobody_reads(tmp_path: Path, album: Path) -> None:
    with world(tmp_path) as here:
        sh("ln -s ../../album mnt/imports/set", tmp_path)
        eventually(lambda: here.state("set") == "ImportStateReady")
        with (here.imports / "set" / "root" / "picture").open("rb") as file:
            file.read(10)
            assert "Device or resource busy" in sh("rmdir mnt/imports/set", tmp_path, check=False).stderr
        eventually(lambda: sh("rmdir mnt/imports/set", tmp_path, check=False).returncode == 0)
        assert here.names() == rpc_names() == []
        assert (album / "picture").exists()


def test_rmdir_is_busy_while_another_mount_reads(tmp_path: Path, album: Path) -> None:
    with world(tmp_path) as here, mounted(tmp_path / "other") as other:
        sh("cp album/picture mnt/imports/", tmp_path)
        theirs = other.path / "imports" / "picture" / "root"
        eventually(theirs.exists)
        with theirs.open("rb") as file:
            file.read(10)
            assert "Device or resource busy" in sh("rmdir mnt/imports/picture", tmp_path, check=False).stderr
        assert here.names() == ["picture"]


def test_all_else_stays_read_only(tmp_path: Path, album: Path) -> None:
    with world(tmp_path) as here:
        sh("cp -r album mnt/imports/t && mv mnt/imports/t mnt/imports/set", tmp_path)
        eventually((here.imports / "set" / "root").exists)
        for command in (
            "touch mnt/x", "mkdir mnt/shards/x", "touch mnt/shards/x", "touch mnt/imports/set/x",
            "touch mnt/imports/set/root/picture", "rm mnt/imports/set/root/sub/note", "mkdir mnt/ipfs/x",
            "echo x > mnt/imports/set/root/picture", "chmod 600 mnt/imports/set/root/picture",
            "rmdir mnt/imports/set/roots", "mv mnt/imports/set/root mnt/imports/set/r", "ln -s x mnt/ipfs/x",
        ):  # fmt: skip
            done = sh(command, tmp_path, check=False)
            assert (done.returncode, "Read-only file system" in done.stderr) == (1, True), command


def test_special_files_and_names_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    with world(tmp_path) as here:
        with pytest.raises(OSError) as refused:
            os.mkfifo(here.imports / "fifo")
        assert refused.value.errno == errno.EPERM
        with pytest.raises(OSError) as refused:
            os.mkdir(os.fsencode(here.imports) + b"/\xff")  # noqa: PTH102
        assert refused.value.errno == errno.EILSEQ
        with pytest.raises(OSError) as refused:
            (here.imports / ("x" * 256)).mkdir()
        assert refused.value.errno == errno.ENAMETOOLONG
        with pytest.raises(OSError) as refused:
            os.setxattr(here.imports, "user.x", b"")
        assert refused.value.errno == errno.EROFS


@pytest.mark.privileged
def test_only_those_whom_the_agent_lets_may_write(tmp_path: Path) -> None:
    sh("chmod 755 . ..", tmp_path)
    with world(tmp_path) as here:
        for command in ("ln -s /etc/hostname x", "mkdir x", "cp /etc/hostname x"):
            done = subprocess.run(
                ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c", command],
                cwd=here.imports, capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert (done.returncode, "Permission denied" in done.stderr) == (1, True), done.stderr
        assert here.names() == []


def test_space_that_is_left_is_that_of_the_staging_folder(tmp_path: Path) -> None:
    with world(tmp_path) as here:
        shown, real = os.statvfs(here.mount.path), os.statvfs(os.environ["CARFS_PATH"])
        assert abs(shown.f_bavail * shown.f_frsize - real.f_bavail * real.f_frsize) < 1 << 30


# shards/


def test_a_link_registers_a_shard_and_rmdir_destroys_it(tmp_path: Path) -> None:
    car = write_car(tmp_path / "greeting.car", [HELLO], [HELLO[0]])
    with world(tmp_path) as here:
        sh(f"ln -s {car} mnt/shards/one && ln -s ../../greeting.car mnt/shards/two", tmp_path)
        sh(f"ln -s {car.as_uri()} mnt/shards/three", tmp_path)
        for name in ("one", "two", "three"):
            eventually((here.shards / name / "root").exists)
            assert (here.shards / name / "root").read_bytes() == HELLO[1]
        assert "File exists" in sh(f"ln -sT {car} mnt/shards/one", tmp_path, check=False).stderr
        assert "No such file" in sh("ln -s ../../nothing mnt/shards/four", tmp_path, check=False).stderr
        assert "Invalid" in sh("ln -s gopher://x/y mnt/shards/four", tmp_path, check=False).stderr
        sh("rmdir mnt/shards/one", tmp_path)
        assert sorted(path.name for path in here.shards.iterdir()) == ["three", "two"]
        assert car.exists()
