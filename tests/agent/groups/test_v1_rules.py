"""In what order the two limits of cgroup v1 are written, and what is done on kernels that lack some."""

from __future__ import annotations

import errno

import pytest

from agent.workers.groups.v1 import V1

MEMORY, TOGETHER = "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"
UNLIMITED = 9223372036854771712


class Files:
    """One group, in which both limits are kept in order as the kernel does."""

    def __init__(self, memory: int, together: int | None) -> None:
        self.limits = {MEMORY: memory} | ({} if together is None else {TOGETHER: together})
        self.texts: dict[str, str] = {}
        self.busy: set[str] = set()

    def read(self, path: str) -> str:
        name = path.rpartition("/")[2]
        if name not in self.limits and name not in self.texts:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")
        return self.texts.get(name) or f"{self.limits[name]}\n"

    def write(self, path: str, text: str) -> None:
        name = path.rpartition("/")[2]
        after = self.limits | {name: UNLIMITED if text == "-1" else int(text)}
        if name not in self.limits:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")
        if name in self.busy:
            raise OSError(errno.EBUSY, "Device or resource busy")
        if after[MEMORY] > after.get(TOGETHER, UNLIMITED):
            raise OSError(errno.EINVAL, "Invalid argument")
        self.limits = after


def limit(files: Files, memory_bytes: int) -> None:
    V1(files).limit("/g", memory_bytes, 0)  # type: ignore[arg-type]  # only reading and writing are needed


@pytest.mark.parametrize("before", [(UNLIMITED, UNLIMITED), (100, 100), (100, 500), (300, 300)])
@pytest.mark.parametrize("after", [50, 100, 200, 300, 900, 0])
def test_both_limits_are_set_in_an_order_that_the_kernel_takes(before: tuple[int, int], after: int) -> None:
    files = Files(*before)
    limit(files, after)
    assert files.limits == dict.fromkeys((MEMORY, TOGETHER), after or UNLIMITED)


def test_without_swap_accounting_there_is_only_one() -> None:
    files = Files(UNLIMITED, None)
    limit(files, 100)
    assert files.limits == {MEMORY: 100}


def test_what_the_kernel_refuses_leaves_both_as_they_were() -> None:
    """The task before has more in swap than this one may have at all."""
    files = Files(300, 300)
    files.busy = {TOGETHER}
    with pytest.raises(OSError, match="busy"):
        limit(files, 100)
    assert files.limits == {MEMORY: 300, TOGETHER: 300}


def test_a_kernel_that_does_not_count_kills_has_none_to_tell() -> None:
    files = Files(300, 300)
    files.texts["memory.oom_control"] = "oom_kill_disable 0\nunder_oom 0\n"
    assert V1(files).oom_kills("/g") == 0  # type: ignore[arg-type]  # as above


@pytest.mark.parametrize(("peak", "kills"), [(3_000_000, 1), (2_000_000, 0)])
def test_who_is_killed_by_a_limit_further_up_has_not_outgrown_its_own(peak: int, kills: int) -> None:
    files = Files(3_000_000, 3_000_000)
    files.texts = {"memory.oom_control": "oom_kill 1\n", "memory.memsw.max_usage_in_bytes": f"{peak}\n"}
    assert V1(files).oom_kills("/g") == kills  # type: ignore[arg-type]  # as above
