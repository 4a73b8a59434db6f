"""`[dagstore]` of the configuration: what Lotus calls `[DAGStore]`, and ours. `agent/config.py` reads it.

Wherever a number bounds something, 0 means that it is not bounded. Lotus' names are accepted beside ours, so that its
section can be pasted under the heading; durations are then Go's ("1m30s").
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

import msgspec

Limit = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
Share = Annotated[float, msgspec.Meta(gt=0, le=1)]
Interval = Annotated[float, msgspec.Meta(ge=0, le=366 * 86400)]
Bytes = Annotated[int, msgspec.Meta(ge=0, le=1 << 62)]

LOTUS_SECTION = "DAGStore"
LOTUS_NAMES = {
    "RootDir": "root_dir",
    "MaxConcurrentIndex": "max_concurrent_index",
    "MaxConcurrentReadyFetches": "max_concurrent_ready_fetches",
    "MaxConcurrentUnseals": "max_concurrent_unseals",
    "MaxConcurrencyStorageCalls": "max_concurrency_storage_calls",
    "GCInterval": "gc_interval_s",
}
LOTUS_VARIABLES = {
    "LOTUS_DAGSTORE_COPY_CONCURRENCY": "max_concurrent_ready_fetches",
    "LOTUS_DAGSTORE_MOUNT_CONCURRENCY": "max_concurrency_storage_calls",
}
_GO_UNITS_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_GO_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)")


class DagstoreConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much at once, how often again, how long to keep."""

    root_dir: str = "dagstore"  # holds index/, inverted/, transients/ and repairs/; from $CARFS_PATH
    max_concurrent_index: Limit = 5  # indices made at once; each also needs a worker ([workers] count)
    max_concurrent_ready_fetches: Limit = 0  # transients filled at once from mounts that can answer now
    max_concurrent_unseals: Limit = (
        5  # indices made at once of what must be unsealed first; apart from the others
    )
    max_concurrency_storage_calls: Limit = 100  # looks at mounts at once
    gc_interval_s: Interval = 60.0  # seconds between two looks for what may go; 0: only when asked
    recover_on_start: Literal["never", "acquire", "now"] = (
        "acquire"  # when shards that were Errored before are tried again
    )
    retry_attempts: Limit = (
        20  # retries of one shard by itself, at most; each class of error has a limit of its own below
    )
    retry_max_s: Interval = (
        3600.0  # seconds between two retries, at most; each class of error has a limit of its own below
    )
    breaker_failures: Limit = (
        5  # failures in a row, after which an origin (host, bucket, folder) is left alone
    )
    breaker_pause_s: Interval = (
        10.0  # seconds for which an origin is left alone at first; twice that each time, up to 5 minutes
    )
    remote_fresh_s: Interval = (
        30.0  # seconds for which remote data are not looked at again when their shard is acquired
    )
    history_kept: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 64  # transitions kept of each shard
    trace_buffer: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = (
        1024  # events that a slow reader may lag behind
    )
    transients_max_bytes: Bytes = 0  # bytes of local copies of remote data; 0: as much as the disk holds
    transients_high: Share = 0.9  # part of transients_max_bytes from which on the least recently used go
    transients_low: Share = 0.7  # part of transients_max_bytes that is left then

    def __post_init__(self) -> None:
        """Raises ValueError."""
        if self.transients_low >= self.transients_high:
            raise ValueError(
                f"transients_low is {self.transients_low}: it must be below transients_high, {self.transients_high}"
            )


def in_our_names(section: dict[str, object]) -> dict[str, object]:
    """The section with Lotus' names and durations turned into ours; raises ValueError."""
    ours: dict[str, object] = {}
    for name, value in section.items():
        key = LOTUS_NAMES.get(name, name)
        if key in ours or (key != name and key in section):
            raise ValueError(f"{key} is given twice, as {name} too")
        ours[key] = duration_s(value) if name == "GCInterval" and isinstance(value, str) else value
    return ours


def duration_s(text: str) -> float:
    """Go's `1h2m3.5s` in seconds; raises ValueError."""
    parts = _GO_PART.findall(text)
    if text != "0" and (not parts or "".join(number + unit for number, unit in parts) != text):
        raise ValueError(f"GCInterval: {text!r} is not a duration such as '1m' or '1h30m'")
    return sum(float(number) * _GO_UNITS_S[unit] for number, unit in parts)
