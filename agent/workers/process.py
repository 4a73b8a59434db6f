"""A worker process (`python -m agent.workers.process`): reads tasks from stdin, writes messages to stdout.

It ends when stdin does, even in the middle of a task: a killed agent leaves no worker behind that still writes.
(PR_SET_PDEATHSIG would not do: it looks at the thread that started us, and trio's threads come and go.)
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from typing import BinaryIO

from agent.dagstore.failures import ErrorClass, ShardError, class_of_os_error
from agent.scheduler.requirement import IoClass
from agent.workers import allocator, messages, tasks
from agent.workers.peaks import PeakWatch
from agent.workers.priorities import be_killed_first, set_io_class
from carlib.errors import CarError

PROGRESS_INTERVAL_S = 0.25
NICENESS = 5  # the agent answers while its workers keep every CPU busy


def main() -> None:
    """Serves tasks until stdin ends."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(
            number, signal.SIG_IGN
        )  # Ctrl-C and `systemctl stop` reach all; the agent says what they mean
    os.nice(NICENESS)
    be_killed_first()
    replies = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # a stray print must not end up between two messages
    arrived: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(sys.stdin.buffer, arrived), daemon=True).start()
    while True:
        line = arrived.get()
        with PeakWatch() as watch:
            reply = _reply(line, replies, Needs(replies, arrived))
        del line
        replies.write(messages.encode(reply | {"peak": watch.peak_bytes}))
        allocator.give_back()


def _read(requests: BinaryIO, arrived: queue.SimpleQueue[bytes]) -> None:
    for line in requests:
        arrived.put(line)
    os._exit(0)


def _reply(line: bytes, replies: BinaryIO, fetch: Needs) -> messages.Params:
    try:
        request = messages.decode(line)
        set_io_class(IoClass(request["io_class"]))
        task = tasks.load(request["task"])
        return {"result": task(request["params"], _Progress(replies).report, fetch)}
    except ShardError as error:
        return _error(error.error_class, str(error))
    except CarError as error:
        return _error(ErrorClass.CORRUPT, str(error))
    except OSError as error:
        return _error(class_of_os_error(error), _os_error_text(error))
    except MemoryError:
        return _error(ErrorClass.BUSY, "out of memory; try again when more of it is free")
    except Exception as error:  # the boundary of the process: whatever it was, the agent gets an answer
        traceback.print_exc()
        return _error(ErrorClass.BUG, f"{type(error).__name__}: {error}")


def _error(error_class: ErrorClass, message: str) -> messages.Params:
    return {"error": {"class": error_class.value, "message": message}}


def _os_error_text(error: OSError) -> str:
    what = error.strerror or str(error)
    if not isinstance(error.filename, str | bytes):
        return what
    return f"{os.fsencode(error.filename).decode(errors='backslashreplace')}: {what}"


class Needs:
    """An `agent.dagstore.access.Fetch` that asks the agent; for one thread."""

    def __init__(self, replies: BinaryIO, arrived: queue.SimpleQueue[bytes]) -> None:
        self._replies = replies
        self._arrived = arrived

    def ensure(self, offset: int, length: int) -> None:
        """Raises ShardError, as the agent's own `ensure`."""
        self._ask({"need": [offset, length], "again": False})

    def renew(self, offset: int, length: int) -> None:
        self._ask({"need": [offset, length], "again": True})

    def hint(self, ranges: Sequence[tuple[int, int]]) -> None:
        self._replies.write(messages.encode({"want": list(ranges)}))

    def _ask(self, message: messages.Params) -> None:
        self._replies.write(messages.encode(message))
        answer = messages.decode(self._arrived.get())
        if "lack" in answer:
            raise ShardError(ErrorClass(answer["lack"]["class"]), answer["lack"]["message"])


class _Progress:
    """Passes progress on, a few times a second at most."""

    def __init__(self, replies: BinaryIO) -> None:
        self._replies = replies
        self._last = time.monotonic()

    def report(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._last >= PROGRESS_INTERVAL_S:
            self._last = now
            self._replies.write(messages.encode({"progress": [done, total]}))


if __name__ == "__main__":
    main()
