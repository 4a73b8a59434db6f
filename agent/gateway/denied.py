"""What is not served: a list in the compact format of IPIP-0383, read anew when its file changes.

# comment
/ipfs/bafy…                     this CID, with all paths below it
/ipfs/bafy…/secret/*            paths that begin so
//d9d295bde21f422d471a90f2a37ec53049fdf3e5fa3ee2e8f20e10003da429e7    SHA-256 of "CID" or of "CID/path", in hex
/ipfs/bafy… status_code=451     for legal reasons (else 410, gone)
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import trio

from carlib.cid import Cid
from carlib.errors import CarError

logger = logging.getLogger(__name__)

GONE = 410
LEGAL = 451


@dataclass(frozen=True, slots=True)
class Rules:
    """Of one file."""

    blocks: dict[bytes, int] = field(default_factory=dict)  # multihash -> status
    paths: tuple[tuple[bytes, bytes, int], ...] = ()  # multihash, beginning of the path
    hashes: dict[str, int] = field(default_factory=dict)

    def status(self, cid: Cid, path: tuple[bytes, ...] = ()) -> int | None:
        """410 or 451 if it must not be served; None if it may be."""
        found = self.blocks.get(cid.multihash)
        if found is not None:
            return found
        joined = b"/".join(path)
        for multihash, beginning, status in self.paths:
            if multihash == cid.multihash and joined.startswith(beginning):
                return status
        if self.hashes:
            for text in _spellings(cid):
                for end in {b"", b"/" + joined if joined else b""}:
                    status_ = self.hashes.get(hashlib.sha256(text.encode() + end).hexdigest())
                    if status_ is not None:
                        return status_
        return None


def _spellings(cid: Cid) -> Iterable[str]:
    """As lists write them: version 1 in base32, which older ones end with a slash."""
    text = cid.encode("base32") if cid.version == 0 else str(cid)
    yield text
    yield f"{text}/"


def parse(text: str) -> tuple[Rules, list[str]]:
    """The rules, and the lines that are none."""
    blocks: dict[bytes, int] = {}
    paths: list[tuple[bytes, bytes, int]] = []
    hashes: dict[str, int] = {}
    bad = []
    for line in text.splitlines():
        words = line.split()
        if not words or words[0].startswith("#") or line.strip() == "---":
            continue
        status = LEGAL if "status_code=451" in words[1:] else GONE
        rule = words[0]
        try:
            if rule.startswith("//"):
                bytes.fromhex(rule[2:])
                hashes[rule[2:].lower()] = status
                continue
            if not rule.startswith("/ipfs/"):
                raise ValueError
            cid_text, slash, path = rule.removeprefix("/ipfs/").partition("/")
            cid = Cid.parse(cid_text)
        except (CarError, ValueError):
            bad.append(line)
            continue
        if slash and path not in ("", "*"):
            paths.append((cid.multihash, path.removesuffix("*").encode(), status))
        else:
            blocks[cid.multihash] = status
    return Rules(blocks, tuple(paths), hashes), bad


class DenyList:
    """The rules of a file as it is now; one that cannot be read denies what it denied before."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._stamp: tuple[int, int, int] | None = None
        self._rules = Rules()
        self._looked_s = -1.0

    async def rules(self) -> Rules:
        if self._path is None:
            return self._rules
        now_s = trio.current_time()
        if now_s - self._looked_s >= 1.0:
            self._looked_s = now_s
            await trio.to_thread.run_sync(self._look, self._path)
        return self._rules

    def _look(self, path: Path) -> None:
        try:
            found = path.stat()
            stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
            if stamp == self._stamp:
                return
            rules, bad = parse(path.read_text(encoding="utf-8", errors="replace"))
        except OSError as error:
            if self._stamp is None:
                logger.error("%s: %s; nothing is denied until it can be read", path, error.strerror)
            return
        self._stamp, self._rules = stamp, rules
        count = len(rules.blocks) + len(rules.paths) + len(rules.hashes)
        logger.info("%s: %d rules, %d lines that are none", path, count, len(bad))
