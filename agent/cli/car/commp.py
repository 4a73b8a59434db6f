"""`carfs car commp`: the piece that a CAR is for Filecoin."""

from __future__ import annotations

import os
import sys
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

from agent.cli.car.given import STDIN, car_argument
from agent.cli.command import command, example, json_option, quiet_option
from agent.cli.output import emit_json, size_text
from agent.cli.progress import Step, progress
from carlib.piece import Commitment, Piece, commit_file
from carlib.piece.kernel import RELEASES_GIL

READ_BYTES = 1 << 20


@command(epilog=example("carfs car commp deal.car", "zcat deal.car.gz | carfs car commp --json -"))
@car_argument
@json_option
@quiet_option
def commp(car: str, as_json: bool, quiet: bool) -> None:
    """Compute the piece commitment of CAR: both kinds of piece CID, and the sizes.

    Every byte of the file counts, so this is for any file. CAR may be - for standard input, which is read once
    through and not kept.
    """
    with progress(f"hashing {car}", quiet=quiet) as step:
        piece = _of_stream(sys.stdin.buffer, step) if car == STDIN else _of_file(Path(car), step)
    if as_json:
        emit_json(
            {
                "pieceCid": str(piece.v1),
                "pieceCidV2": str(piece.v2),
                "pieceSize": piece.padded_size,
                "unpaddedPieceSize": piece.unpadded_size,
                "payloadSize": piece.payload_size,
            }
        )
        return
    print(f"Piece CID: {piece.v1}")
    print(f"Piece CID v2: {piece.v2}")
    print(f"Piece size: {piece.padded_size} ({size_text(piece.padded_size)})")
    print(f"Payload size: {piece.payload_size}")


def _of_stream(stream: BinaryIO, step: Step) -> Piece:
    commitment = Commitment()
    while data := stream.read(READ_BYTES):
        commitment.update(data)
        step(commitment.payload_size, 0)
    return commitment.piece()


def _of_file(path: Path, step: Step) -> Piece:
    if not path.is_file():  # a FIFO and a device have data, but no size: they would pass for empty files
        with path.open("rb") as stream:
            return _of_stream(stream, step)
    with _workers() as workers:
        return commit_file(path, executor=workers, progress=step)


def _workers() -> Executor:
    """Where subtrees are hashed: threads where the kernel lets others run, else processes."""
    count = os.cpu_count() or 1
    return ThreadPoolExecutor(count) if RELEASES_GIL else ProcessPoolExecutor(count)
