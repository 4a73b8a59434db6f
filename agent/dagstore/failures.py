"""What can go wrong with a shard: the error classes, a failure as a value, and the error a caller gets.

The class says who can do something about it and is part of the wire format (`ErrorClass` of a shard record,
`data.class` of an RPC error); the message says what happened, to which file, and what to do.
"""

from __future__ import annotations

import enum
import errno
from dataclasses import dataclass, field


class ErrorClass(enum.StrEnum):
    """The classes of failure, as they go over the wire."""

    NOT_FOUND = "not-found"  # no such shard, session, method
    EXISTS = "exists"  # a shard of that key is there already
    BUSY = "busy"  # in use, stopping, or not in the state for this; later it may work
    INVALID = "invalid"  # the request makes no sense: fix the request
    DENIED = "denied"  # the operating system or the permission level refuses
    GONE = "gone"  # the data is not (any more) where the mount says
    CORRUPT = "corrupt"  # the data is there and is not what it claims to be
    NO_SPACE = "no-space"  # disk or quota full
    CANCELLED = "cancelled"  # somebody called it off before it was done
    BUG = "bug"  # ours


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a shard is Errored. `origin_failed`: not this one object but all that comes from the same place, such as a
    host that refuses connections or a disk that does not answer; the circuit breaker counts these alone. `after_s`: in
    how many seconds it may be better, if somebody has said so."""

    error_class: ErrorClass
    message: str
    origin_failed: bool = field(default=False, compare=False)
    after_s: float | None = field(default=None, compare=False)


STOPPING = Failure(ErrorClass.BUSY, "the agent is stopping")


class ShardError(Exception):
    """A request about a shard could not be fulfilled; `failure` says why, `key` names the shard if there is one."""

    def __init__(
        self,
        error_class: ErrorClass,
        message: str,
        *,
        key: str | None = None,
        origin_failed: bool = False,
    ) -> None:
        super().__init__(message)
        self.failure = Failure(error_class, message, origin_failed)
        self.key = key

    @property
    def error_class(self) -> ErrorClass:
        return self.failure.error_class


_CLASS_OF_ERRNO = {
    errno.ENOENT: ErrorClass.GONE,
    errno.ENOTDIR: ErrorClass.GONE,
    errno.ESTALE: ErrorClass.GONE,
    errno.ENOTCONN: ErrorClass.GONE,
    errno.ENODEV: ErrorClass.GONE,
    errno.ENXIO: ErrorClass.GONE,
    errno.ETIMEDOUT: ErrorClass.GONE,
    errno.EIO: ErrorClass.CORRUPT,
    errno.EACCES: ErrorClass.DENIED,
    errno.EPERM: ErrorClass.DENIED,
    errno.EROFS: ErrorClass.DENIED,
    errno.ENOSPC: ErrorClass.NO_SPACE,
    errno.EDQUOT: ErrorClass.NO_SPACE,
    errno.ENOMEM: ErrorClass.BUSY,
    errno.EAGAIN: ErrorClass.BUSY,
    errno.EMFILE: ErrorClass.BUSY,
    errno.ENFILE: ErrorClass.BUSY,
    errno.EISDIR: ErrorClass.INVALID,
    errno.ELOOP: ErrorClass.INVALID,
    errno.ENAMETOOLONG: ErrorClass.INVALID,
}


_ORIGIN_ERRNOS = frozenset(
    {
        errno.ESTALE,
        errno.ENOTCONN,
        errno.ENODEV,
        errno.ENXIO,
        errno.ETIMEDOUT,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ECONNREFUSED,
    }
)


def is_origin_failure(error: ShardError) -> bool:
    """Whether all that comes from the same place fails with this: the error says so, or what it was made from."""
    cause = error.__cause__
    return error.failure.origin_failed or (isinstance(cause, OSError) and cause.errno in _ORIGIN_ERRNOS)


def class_of_os_error(error: OSError) -> ErrorClass:
    """The class for an error of the operating system; unknown numbers count as `bug`, so that they get reported."""
    return _CLASS_OF_ERRNO.get(error.errno or 0, ErrorClass.BUG)
