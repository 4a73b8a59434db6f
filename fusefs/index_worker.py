"""Builds an index in a process of its own: the mount stays small, and Ctrl-C and progress work meanwhile.

`python -m fusefs.index_worker CAR INDEX` writes one JSON object a line: `{"progress": [done, total]}`, then
`{"result": …}` or `{"error": …}`.  A plain child and not one of `multiprocessing`, whose resource tracker would stay
for as long as the mount does, and hold the terminal open behind a mount that has left it.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from carlib import errors


def build(car: Path, index: Path, progress: Callable[[int, int], None]) -> dict[str, Any]:
    """Indexes `car` into `index` as far as it is whole, and gives the facts of a shard's record.

    Raises CarError, OSError.
    """
    command: list[str | Path] = [sys.executable, "-m", __name__, car, index]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                match json.loads(line):
                    case {"progress": [done, total]}:
                        progress(done, total)
                    case {"result": dict(facts)}:
                        return facts
                    case {"error": dict(failed)}:
                        raise _error(failed)
        finally:
            process.kill()
    raise OSError(f"the process that indexed {car} ended without a result")


def main(car: str, index: str) -> None:
    """The worker's side."""
    from carlib.indexing import build as build_index  # here: numpy stays out of the mount

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent has the same Ctrl-C, and ends us
    try:
        report = build_index(
            Path(car), Path(index), salvage=True, progress=lambda *step: _say({"progress": step})
        )
    except errors.CarError as error:
        _say(
            {
                "error": {
                    "name": type(error).__name__,
                    "message": error.message,
                    "source": error.source,
                    "offset": error.offset,
                }
            }
        )
    except OSError as error:
        _say({"error": {"name": "OSError", "message": str(error)}})
    else:
        _say(
            {
                "result": {
                    "Version": report.version,
                    "DataOffset": report.data_offset,
                    "DataSize": report.data_size,
                    "IndexCodec": report.index_codec,
                    "IndexSize": report.index_size,
                    "Blocks": report.block_count,
                    "Roots": [str(root) for root in report.roots],
                    "Error": "" if report.damage is None else str(report.damage),
                }
            }
        )


def _say(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)


def _error(failed: dict[str, Any]) -> Exception:
    """The worker's error as one of the same class."""
    kind = getattr(errors, failed["name"], None)
    if not (isinstance(kind, type) and issubclass(kind, errors.CarError)):
        return OSError(failed["message"])
    error = kind.__new__(kind)
    errors.CarError.__init__(error, failed["message"], source=failed["source"], offset=failed["offset"])
    return error


if __name__ == "__main__":
    main(*sys.argv[1:])
