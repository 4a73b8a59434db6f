"""`[resources]`: what may be given, and what it limits."""

from __future__ import annotations

import msgspec
import pytest

from agent.resources.facts import Resource
from agent.resources.settings import ResourcesConfig, size_bytes
from tests.agent.resources.captured import GIB, MIB, GivenFiles, host, of, said


@pytest.mark.parametrize(
    ("text", "size"),
    [("4096", 4096), ("512MiB", 512 * MIB), ("512M", 512 * MIB), ("1.5 GiB", 3 * GIB // 2), ("2g", 2 * GIB),
     ("1KB", 1024), ("0", 0)],
)  # fmt: skip
def test_sizes_are_powers_of_1024(text: str, size: int) -> None:
    assert size_bytes(text) == size


@pytest.mark.parametrize("text", ["", "lots", "-1", "1e9", "80%", "1 GiB 2", "9999999999T"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a size|more than any machine"):
        size_bytes(text)


def test_a_wrong_size_is_refused_with_the_whole_configuration() -> None:
    with pytest.raises(msgspec.ValidationError, match="'lots' is not a size"):
        msgspec.convert({"memory": "lots"}, ResourcesConfig)


def test_memory_is_given_as_a_number_or_as_a_size() -> None:
    assert msgspec.convert({"memory": 4096}, ResourcesConfig).memory_bytes() == 4096
    assert msgspec.convert({"memory": "8GiB"}, ResourcesConfig).memory_bytes() == 8 * GIB
    assert ResourcesConfig().memory_bytes() is None


def test_limits_of_ours_count_beside_the_others() -> None:
    machine = GivenFiles(host())
    snapshot = machine.snapshot(ResourcesConfig(memory="1GiB", swap=False, cpus=1.5))
    # RssAnon and RssShmem of the process itself: what it maps of files can be dropped
    assert said(snapshot, "resources.memory") == [(GIB, 41 * MIB)]
    assert (snapshot.memory.limit, snapshot.memory.headroom) == (GIB, GIB - 41 * MIB)
    assert (snapshot.swap.limit, snapshot.swap.headroom) == (0, 0)
    assert snapshot.cpus.limit == 1500
    assert not [fact for one in Resource for fact in of(machine.snapshot(), one) if fact.source == "config"]


def test_what_workers_use_counts_against_our_limit_whichever_thread_started_them() -> None:
    processes = {
        "/proc/self/task/10/children": "",
        "/proc/self/task/11/children": "20 21 ",  # 21 ends meanwhile
        "/proc/20/status": "RssAnon:\t1024 kB\nRssFile:\t999999 kB\nRssShmem:\t0 kB\n",
        "/proc/20/task/20/children": "22",
        "/proc/22/status": "RssAnon:\t2048 kB\n",
    }
    snapshot = GivenFiles(host() | processes).snapshot(ResourcesConfig(memory="1GiB"))
    assert said(snapshot, "resources.memory") == [(GIB, 44 * MIB)]
    assert snapshot.problems == ()
