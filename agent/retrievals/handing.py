"""What was retrieved, put into an IPFS node beside us: all that its CAR holds, pinned."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Final

import trio

from agent.dagstore.failures import ShardError, class_of_os_error
from agent.ipfs.node import Car, IpfsNode
from carlib.cid import Cid
from carlib.header import V2_PREFIX_BYTES

logger = logging.getLogger(__name__)

PIECE_BYTES: Final = 1 << 20


async def hand_over(path: Path, size: int, root: Cid, node: IpfsNode, *, single: Sequence[Cid]) -> None:
    """Puts the CARv1 of `size` bytes inside the CARv2 at `path` into the node, and pins it: by its root, or each of
    the `single` blocks, where the DAG is not whole. Raises ShardError."""
    async with aclosing(payload(path, size)) as pieces:
        blocks = await node.take(Car(root, size, pieces), whole=not single)
    await node.pin([cid for cid in single if not cid.is_identity])
    logger.info("%s has taken %d blocks of %s", node.name, blocks, root)


async def payload(path: Path, size: int) -> AsyncGenerator[bytes, None]:
    """The CARv1 of `size` bytes inside the CARv2 at `path`; raises ShardError."""
    try:
        async with await trio.open_file(path, "rb") as file:
            await file.seek(V2_PREFIX_BYTES)
            left = size
            while left and (piece := await file.read(min(left, PIECE_BYTES))):
                left -= len(piece)
                yield piece
    except OSError as error:
        raise ShardError(class_of_os_error(error), f"{path}: {error.strerror}") from error
