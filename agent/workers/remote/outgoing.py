"""What a remote worker has yet to say: kept until the agent has taken it, and said again where that is not known.

Pure: no await, no clock.
"""

from __future__ import annotations

from agent.workers.remote.messages import FromWorker, Progress, Report, Status

MAX_TOGETHER = 256  # messages of one report
MAX_TOGETHER_CHARACTERS = (
    3 * 1024 * 1024
)  # of results in it; escaped they may double, and a body has at most 8 MiB


class Outgoing:
    """The messages of one join, in order; of the progress of a task only the last is kept."""

    def __init__(self, session: str, ticket: str) -> None:
        self._session = session
        self._ticket = ticket
        self._sequence = 0
        self._waiting: list[FromWorker] = []
        self._under_way: list[FromWorker] = []

    def put(self, message: FromWorker) -> None:
        if isinstance(message, Progress):
            for place, other in enumerate(self._waiting):
                if isinstance(other, Progress) and other.assignment == message.assignment:
                    self._waiting[place] = message
                    return
        self._waiting.append(message)

    @property
    def is_empty(self) -> bool:
        return not self._waiting and not self._under_way

    def report(self, status: Status | None) -> Report:
        """The next report; the same messages under the same number until `taken` is called."""
        if not self._under_way:
            count = self._fitting()
            self._under_way, self._waiting = self._waiting[:count], self._waiting[count:]
            self._sequence += 1
        return Report(self._session, self._ticket, self._sequence, self._under_way, status)

    def taken(self) -> None:
        """The agent has the last report."""
        self._under_way = []

    def _fitting(self) -> int:
        size = 0
        for count, message in enumerate(self._waiting[:MAX_TOGETHER]):
            size += len(getattr(message, "text", ""))
            if count and size > MAX_TOGETHER_CHARACTERS:
                return count
        return min(len(self._waiting), MAX_TOGETHER)
