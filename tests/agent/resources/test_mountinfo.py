"""Mountinfo, and what it and /proc/PID/cgroup together say of where a group is."""

from __future__ import annotations

import pytest

from agent.resources.membership import Level, Membership, Place, membership
from agent.resources.mountinfo import Mount, cgroup_mounts

ROOT = "1 0 0:1 / / rw - ext4 /dev/vda rw\n"


def v1(root: str, *, number: int = 30, parent: int = 1, point: str = "/cg/memory") -> str:
    return f"{number} {parent} 0:30 {root} {point} rw - cgroup cgroup rw,memory\n"


def memory(path: str, *rows: str) -> Place | None:
    return membership(f"4:memory:{path}\n", ROOT + "".join(rows)).v1.get("memory")


@pytest.mark.parametrize(
    "optional", ["", "shared:5 ", "shared:5 master:2 ", "shared:5 master:2 propagate_from:1 unbindable "]
)
def test_w2_a_mount_is_found_with_any_number_of_optional_fields(optional: str) -> None:
    text = f"30 22 0:25 / /sys/fs/cgroup rw,nosuid {optional}- cgroup2 cgroup rw,nsdelegate\n"
    assert cgroup_mounts(text) == (Mount("/", "/sys/fs/cgroup", True, frozenset({"rw", "nsdelegate"})),)


def test_w2_the_source_of_a_mount_is_never_taken_for_its_type() -> None:
    assert cgroup_mounts("30 22 0:25 / /mnt rw shared:1 - tmpfs cgroup2 rw\n") == ()


def test_names_with_blanks_and_backslashes_are_read_as_they_are() -> None:
    (mount,) = cgroup_mounts(v1(r"/a\040b\134c", point=r"/cg\011x"))
    assert (mount.root, mount.point) == (r"/a b\c", "/cg\tx")


def test_of_several_mounts_on_one_point_the_last_counts() -> None:
    place = memory("/g/child", v1("/"), v1("/g/child", number=31, parent=30))
    assert place == Place((Level("/cg/memory", "g/child", True),))


def test_what_a_later_mount_covers_is_not_there() -> None:
    tmpfs = "40 1 0:40 / /cg rw - tmpfs tmpfs rw\n"
    assert memory("/g", v1("/"), tmpfs) is None
    assert memory("/g", tmpfs, v1("/", parent=40)) is not None


def test_all_groups_from_the_mount_point_down_are_levels() -> None:
    assert memory("/a/b", v1("/")) == Place(
        (
            Level("/cg/memory", "/", False),
            Level("/cg/memory/a", "a", False),
            Level("/cg/memory/a/b", "a/b", True),
        )
    )


def test_the_root_of_the_mount_is_cut_off_the_path() -> None:
    place = memory("/pod/x/worker", v1("/pod/x"))
    assert place is not None
    assert [(level.folder, level.name) for level in place.levels] == [
        ("/cg/memory", "pod/x"),
        ("/cg/memory/worker", "pod/x/worker"),
    ]


def test_a_mount_above_the_namespace_shows_a_group_above_and_says_so() -> None:
    place = memory("/", v1("/../.."))
    assert place is not None
    assert place.levels == (Level("/cg/memory", "../..", False),)
    assert "not its own" in place.trouble
    assert place.own is None


def test_a_mount_of_another_group_shows_nothing() -> None:
    for path, root in (("/", "/../other"), ("/pod/x", "/pod/y"), ("/pod/xy", "/pod/x")):
        place = memory(path, v1(root))
        assert place is not None
        assert place.levels == ()
        assert root in place.trouble


def test_of_several_mounts_the_one_that_shows_most_is_taken() -> None:
    place = memory(
        "/a/b", v1("/a/b", point="/own"), v1("/", number=31, point="/all"), v1("/..", number=32, point="/up")
    )
    assert place is not None
    assert [level.folder for level in place.levels] == ["/all", "/all/a", "/all/a/b"]


def test_controllers_that_are_mounted_together_have_one_place() -> None:
    rows = "30 1 0:30 / /cg/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    found = membership("2:cpu,cpuacct:/g\n1:name=systemd:/g\n0::/g\n", ROOT + rows)
    assert found.v1["cpu"].own == found.v1["cpuacct"].own == Level("/cg/cpu,cpuacct/g", "g", True)
    assert found.v1_controllers == {"cpu", "cpuacct", "name=systemd"}
    assert found.v2 is None


def test_a_group_that_was_removed_is_looked_for_under_its_name() -> None:
    place = memory("/g (deleted)", v1("/"))
    assert place is not None
    assert place.levels[-1].folder == "/cg/memory/g"


def test_colons_in_a_group_are_part_of_its_name() -> None:
    place = memory("/a:b:c", v1("/"))
    assert place is not None
    assert place.levels[-1].name == "a:b:c"


def test_lines_of_another_form_are_passed_over() -> None:
    assert membership("x\n4:memory\n4:memory:relative\n::\n", "1 2\n - \n- - -\n") == Membership(
        None, {}, frozenset()
    )
