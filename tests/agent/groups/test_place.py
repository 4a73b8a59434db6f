"""In which hierarchy groups are made. How the group is found there, tests/agent/resources holds."""

from __future__ import annotations

import pytest

from agent.resources.facts import Mode
from agent.workers.groups.place import NoPlace, find

MOUNT = "/sys/fs/cgroup"
V2 = f"30 23 0:26 / {MOUNT} rw,nosuid,nodev - cgroup2 cgroup rw,nsdelegate\n"
HYBRID = (
    "5:memory:/system.slice/a.service\n1:name=systemd:/system.slice/a.service\n0::/system.slice/a.service\n"
)
V1_MOUNTS = (
    f"35 31 0:32 / {MOUNT}/memory rw shared:9 master:1 - cgroup cgroup rw,memory\n"
    f"41 31 0:38 / {MOUNT}/unified rw - cgroup2 cgroup2 rw\n"
)


def test_unified() -> None:
    place = find("0::/system.slice/a.service\n", V2)
    assert (place.mode, place.own.folder) == (Mode.V2, f"{MOUNT}/system.slice/a.service")


def test_private_namespace() -> None:
    place = find("0::/\n", V2)
    assert place.is_root
    assert place.own.folder == MOUNT


def test_hybrid_goes_by_where_the_memory_controller_is() -> None:
    place = find(HYBRID, V1_MOUNTS)
    assert (place.mode, place.own.folder) == (Mode.V1, f"{MOUNT}/memory/system.slice/a.service")


@pytest.mark.parametrize(
    ("cgroup", "mounts", "reason"),
    [
        ("0::/a\n", "", "of cgroup v2 with the memory controller is not mounted"),
        (HYBRID, V2, "of cgroup v1 with the memory controller is not mounted"),
        ("4:memory:/\n", V1_MOUNTS.replace("/ /sys", "/../.. /sys", 1), "above the process's own"),
        ("4:memory:/other\n", V1_MOUNTS.replace("/ /sys", "/docker/1 /sys", 1), "shows /docker/1"),
    ],
)
def test_no_place_has_a_reason(cgroup: str, mounts: str, reason: str) -> None:
    with pytest.raises(NoPlace, match=reason):
        find(cgroup, mounts)
