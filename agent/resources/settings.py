"""`[resources]` of the configuration: limits of ours beside those of the machine. `agent/config.py` reads it."""

from __future__ import annotations

import re
from typing import Annotated, Literal

import msgspec

Bytes = Annotated[int, msgspec.Meta(ge=0, le=1 << 62)]
Percent = Annotated[float, msgspec.Meta(ge=0, le=100)]
_SIZE = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?) ?([KMGT]?)(?:i?B)?", re.IGNORECASE)
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


class ResourcesConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[resources]`: how much carfs may take, besides what the machine and its cgroup allow."""

    memory: Bytes | str = ""  # memory for the agent and its workers together, as "8GiB"; "": no limit of ours
    swap: bool = True  # whether swap counts as room for the peaks of tasks
    cpus: Annotated[float, msgspec.Meta(ge=0, le=65536)] = 0.0  # CPUs for workers; 0: no limit of ours
    reserve: Bytes = 32 << 20  # bytes that are kept free of what is left
    interval_s: Annotated[float, msgspec.Meta(ge=0.05, le=3600)] = (
        1.0  # seconds between two looks at the limits, when no event comes first
    )
    pressure: Percent = (
        10.0  # percent of 10 s in which all tasks waited for memory, from which none begins; 0: never
    )
    child_groups: Literal["auto", "off"] = "auto"  # whether each worker process gets a cgroup of its own

    def __post_init__(self) -> None:
        """Raises ValueError."""
        self.memory_bytes()

    def memory_bytes(self) -> int | None:
        """`memory` in bytes; None: there is no limit of ours. Raises ValueError."""
        if self.memory == "":
            return None
        return self.memory if isinstance(self.memory, int) else size_bytes(self.memory)


def size_bytes(text: str) -> int:
    """`512MiB`, `512M`, `1.5 GiB` or `4096` in bytes: all units are powers of 1024. Raises ValueError."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is not a size such as 512MiB, 1.5GiB or 4096")
    size = (
        float(found[1]) * _UNITS[found[2].upper()]
        if "." in found[1]
        else int(found[1]) * _UNITS[found[2].upper()]
    )
    if size > 1 << 62:
        raise ValueError(f"{text!r} is more than any machine has")
    return int(size)
