"""Finding out what a mount can do by asking for it: the size, and bytes from the middle."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.mounts.mount import DataChanged, Fingerprint, Mount, Probe

if TYPE_CHECKING:
    from agent.dagstore.mounts.environment import Environment

SAMPLE_BYTES: Final = 256
SHIFT_BYTES: Final = 97  # from one sample to the next, odd and less than a sample


async def probe(mount: Mount, environment: Environment) -> Probe:
    """Looks, then asks for ranges from the middle; raises what `Mount.look` raises."""
    fingerprint = await mount.look(environment)
    started = time.perf_counter()
    ranges = await gives_ranges(mount, environment, fingerprint)
    latency_s = (time.perf_counter() - started) / (2 if fingerprint.size else 1)
    return Probe(fingerprint, ranges, latency_s)


async def gives_ranges(mount: Mount, environment: Environment, fingerprint: Fingerprint) -> bool:
    """Whether two ranges from the middle that overlap come in full, and agree where they overlap.

    A server that answers each range with the first bytes, whatever it claims, is found out by that, unless the data
    repeats itself every `SHIFT_BYTES` there.
    """
    offset = fingerprint.size // 2
    length = min(SAMPLE_BYTES, fingerprint.size - offset)
    shift = min(SHIFT_BYTES, length // 2)
    try:
        first = await read(mount, environment, offset, length, fingerprint)
        second = await read(mount, environment, offset - shift, length, fingerprint)
    except DataChanged:
        raise
    except ShardError as error:
        if error.error_class in (ErrorClass.INVALID, ErrorClass.CORRUPT):
            return False
        raise
    return second[shift:] == first[: length - shift]


async def read(
    mount: Mount, environment: Environment, offset: int, length: int, expected: Fingerprint
) -> bytes:
    """A small range as one piece of memory; raises as `Mount.stream`."""
    async with mount.stream(environment, offset, length, expected) as pieces:
        return b"".join([piece async for piece in pieces])
