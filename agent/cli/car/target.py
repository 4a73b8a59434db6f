"""What a user means inside a CAR: "CID", "CID/a/b", or "/a/b" below the only root."""

from __future__ import annotations

from dataclasses import dataclass

from agent.cli.exits import CommandFailed, Exit
from carlib.blockstore import ReadOnlyBlockstore
from carlib.cid import Cid
from carlib.errors import Malformed
from carlib.names import unshown
from carlib.unixfs import resolve


@dataclass(frozen=True, slots=True)
class Target:
    """A place in a CAR; `names` are as stored in it, and none is left for a bare CID or the root itself."""

    start: Cid
    names: tuple[bytes, ...]
    is_path: bool
    """Whether a path was given, if only "/": then a file means its content and not its block."""

    @classmethod
    def parse(cls, text: str, roots: tuple[Cid, ...]) -> Target:
        """Raises CommandFailed where only a root could be meant and there is not exactly one."""
        head, *rest = text.removeprefix("/ipfs/").split("/")
        names = [_stored(name) for name in rest if name]
        if head:
            try:
                return cls(Cid.parse(head), tuple(names), bool(rest))
            except Malformed:
                names.insert(0, _stored(head))
        if len(roots) != 1:
            raise CommandFailed(f"the CAR has {len(roots)} roots, so write CID/path", Exit.USAGE)
        return cls(roots[0], tuple(names), True)

    def find(self, blocks: ReadOnlyBlockstore) -> Cid:
        """The CID there; raises as `resolve` does."""
        return resolve(blocks, self.start, self.names)


def _stored(name: str) -> bytes:
    """The name in the CAR that listings show as `name`."""
    given = name.encode("utf-8", "surrogateescape")
    stored = unshown(given)
    return given if stored is None else stored
