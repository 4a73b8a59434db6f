"""What the agent knows of one joined worker: when it was heard of, what it was given, which of its words count.

Pure: time comes in, decisions go out.
"""

from __future__ import annotations

from agent.dagstore.failures import ErrorClass, ShardError
from agent.workers.remote.messages import (
    MISSED,
    PROTOCOL,
    Barred,
    Cancelled,
    Died,
    Failed,
    Finished,
    FromWorker,
    Hello,
    Leaving,
    Report,
    Status,
)

MAX_WORKERS = 256


class Session:
    """One join of one worker."""

    def __init__(self, hello: Hello, ticket: str, heartbeat_s: float, now_s: float) -> None:
        self.id = hello.session
        self.ticket = ticket
        self.heartbeat_s = heartbeat_s
        self.status: Status = hello.status
        self.leaving = False
        self.ended = ""  # why it is over; empty: it is not
        self._heard_s = now_s
        self._sequence = 0  # of the last report that was taken
        self._open: set[str] = set()  # assignments without an outcome

    @property
    def lost_at_s(self) -> float:
        """When it is given up if nothing more is heard of it."""
        return self._heard_s + MISSED * self.heartbeat_s

    def silence(self, now_s: float) -> str:
        """Why it is to be given up now; empty if it is not."""
        if now_s < self.lost_at_s:
            return ""
        return f"nothing was heard of it for {now_s - self._heard_s:.1f} s"

    def end(self, reason: str) -> bool:
        """From now on nothing of it is taken; whether it was not so already."""
        if self.ended:
            return False
        self.ended = reason
        self._open.clear()
        return True

    def assigned(self, assignment: str) -> None:
        self._open.add(assignment)

    def take(self, report: Report, now_s: float) -> tuple[FromWorker, ...]:
        """What of a report counts: nothing of one that came before, nor of an assignment that has its outcome.

        Raises ShardError(not-found) where it is from a join that is over.
        """
        if self.ended or report.ticket != self.ticket:
            raise ShardError(
                ErrorClass.NOT_FOUND, f"this worker was given up: {self.ended or 'it has joined anew'}"
            )
        self._heard_s = now_s
        if report.status is not None:
            self.status = report.status
        if report.sequence <= self._sequence:
            return ()
        self._sequence = report.sequence
        return tuple(message for message in report.messages if self._counts(message))

    def _counts(self, message: FromWorker) -> bool:
        if isinstance(message, Leaving):
            self.leaving = True
            return True
        if message.assignment not in self._open:
            return False
        if isinstance(message, Finished | Failed | Died | Barred | Cancelled):
            self._open.remove(message.assignment)
        return True


def refusal(hello: Hello, version: str, joined: int) -> ShardError | None:
    """Why a worker cannot join."""
    if hello.protocol != PROTOCOL:
        theirs = f"carfs {hello.version or '?'} with protocol {hello.protocol}"
        ours = f"the agent is carfs {version} with protocol {PROTOCOL}"
        older = "worker" if hello.protocol < PROTOCOL else "agent"
        message = f"the worker is {theirs}, {ours}: install the newer carfs for the {older}, too"
        return ShardError(ErrorClass.INVALID, message)
    if joined >= MAX_WORKERS:
        return ShardError(ErrorClass.BUSY, f"{joined} workers have joined already, more than that cannot")
    return None
