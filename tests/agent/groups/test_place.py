"""Where the group of a process is, from what /proc says in captured set-ups."""

from __future__ import annotations

import pytest

from agent.resources.facts import Mode
from agent.workers.groups.place import NoPlace, Place, find

MOUNT = "/sys/fs/cgroup"
V2 = f"30 23 0:26 / {MOUNT} rw,nosuid,nodev - cgroup2 cgroup rw,nsdelegate"
HYBRID = (
    "5:memory:/system.slice/a.service\n1:name=systemd:/system.slice/a.service\n0::/system.slice/a.service\n"
)
V1_MOUNTS = (
    f"35 31 0:32 / {MOUNT}/memory rw shared:9 master:1 - cgroup cgroup rw,memory\n"
    f"41 31 0:38 / {MOUNT}/unified rw - cgroup2 cgroup2 rw\n"
)


def test_unified() -> None:
    assert find("0::/system.slice/a.service\n", V2) == Place(Mode.V2, MOUNT, "/system.slice/a.service")


def test_private_namespace() -> None:
    assert find("0::/\n", V2).folder == MOUNT


def test_hybrid_goes_by_where_the_memory_controller_is() -> None:
    place = find(HYBRID, V1_MOUNTS)
    assert (place.mode, place.folder) == (Mode.V1, f"{MOUNT}/memory/system.slice/a.service")


def test_the_last_mount_at_a_folder_counts_and_its_root_is_cut() -> None:
    mounts = V1_MOUNTS + f"50 31 0:32 /docker/1 {MOUNT}/memory rw - cgroup cgroup rw,memory\n"
    assert find("4:memory:/docker/1/x\n", mounts).folder == f"{MOUNT}/memory/x"
    assert find("4:memory:/docker/1\n", mounts).folder == f"{MOUNT}/memory"


def test_spaces_in_a_mount_point() -> None:
    assert find("0::/a\n", V2.replace(MOUNT, "/my\\040groups")).folder == "/my groups/a"


@pytest.mark.parametrize(
    ("cgroup", "mounts", "reason"),
    [
        ("", V2, "no cgroups"),
        ("0::/a\n", "", "v2 hierarchy with the memory controller is not mounted"),
        (HYBRID, V2, "v1 hierarchy with the memory controller is not mounted"),
        ("4:memory:/\n", V1_MOUNTS.replace("/ /sys", "/../.. /sys", 1), "does not show the group"),
        ("4:memory:/other\n", V1_MOUNTS.replace("/ /sys", "/docker/1 /sys", 1), "shows /docker/1"),
        ("0::/../other\n", V2, "outside of its cgroup namespace"),
    ],
)
def test_no_place_has_a_reason(cgroup: str, mounts: str, reason: str) -> None:
    with pytest.raises(NoPlace, match=reason):
        find(cgroup, mounts)
