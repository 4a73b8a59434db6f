"""What `--fix` does: only what costs nothing that cannot be made again, and never anything of a user's.

With an agent it asks the dagstore; without one it holds the repository's lock, so that none can start meanwhile.
"""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import msgspec

from agent.dagstore.failures import ShardError
from agent.doctor.findings import Finding

_REMOVED = frozenset({"orphan-index", "orphan-unfinished-index", "orphan-repair"})
_TRIED_AGAIN = frozenset({"index-damaged", "errored", "errored-stuck"})

TryAgain = Callable[[str], Awaitable[None]]
"""Has a shard looked at and recovered if need be; raises ShardError."""


def fix(findings: Iterable[Finding]) -> list[Finding]:
    """Removes what is left over and takes back write permissions; gives all findings, mended ones so marked.

    Blocks. Whatever is about a shard is left for `try_again`.
    """
    return [_fixed(one) if one.fixable else one for one in findings]


async def try_again(findings: Iterable[Finding], again: TryAgain) -> list[Finding]:
    """Likewise for shards: those that are errored, and those whose index cannot be used."""
    done = []
    for one in findings:
        if one.fixable and not one.fixed and one.check in _TRIED_AGAIN and one.key:
            try:
                await again(one.key)
            except ShardError as error:
                done.append(msgspec.structs.replace(one, advice=f"{one.advice} (--fix tried: {error})"))
                continue
            one = msgspec.structs.replace(one, fixed="its index was made anew")
        done.append(one)
    return done


def _fixed(one: Finding) -> Finding:
    path = Path(one.path)
    try:
        if one.check in _REMOVED:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
            return msgspec.structs.replace(one, fixed="removed")
        if one.check == "permissions":
            mode = path.stat().st_mode & 0o7777 & ~0o022
            path.chmod(mode)
            return msgspec.structs.replace(one, fixed=f"mode is {mode:04o} now")
    except OSError as error:
        return msgspec.structs.replace(one, advice=f"{one.advice} (--fix could not: {error.strerror})")
    return one
