"""Errors → errno: the one table, the classes of our own, and one log line for a fault however often it is met.

The rule for what is not there: a name that *says* what it wants (`blocks/<cid>`, `roots/<cid>`) is answered
ENOENT when the CAR does not hold it; a name that a directory holds, but whose data the CAR lacks, is EIO,
like a disk that has lost a sector. `docs/semantics.md` shows the table to users.
"""

from __future__ import annotations

import errno
import logging
import time
from collections import OrderedDict
from typing import Final

from carlib import errors as car

logger = logging.getLogger(__name__)


class MountError(Exception):
    """What a request can be refused with, apart from what carlib raises."""


class NoSuchName(MountError):
    """Nothing has this name here."""


class NameTooLong(MountError):
    """Longer than `NAME_MAX`: no entry can have it."""


class StaleNode(MountError):
    """The node, or the shard that it was in, is gone."""


class ReadOnlyTree(MountError):
    """The mount cannot be written to."""


class NameTaken(MountError):
    """Something has that name, or the same content, already."""


class InUse(MountError):
    """Somebody reads from it, or is at work on it."""


class NotEmpty(MountError):
    """A directory with something in it."""


class NotAllowed(MountError):
    """The agent does not let this mount, or this user, do that."""


class NoRoom(MountError):
    """A disk or a quota is full."""


class NoSource(MountError):
    """What a link leads to is not there."""


class OwnTree(MountError):
    """What a link leads to is in this mount itself."""


class UnfitSource(MountError):
    """Nothing can be made of it: a CAR with two roots, a URL that is none, a file that is no regular one."""


class NotWhole(MountError):
    """What was copied is damaged, or the copy broke off."""


class OtherPlace(MountError):
    """It can only be moved within the place where it is."""


class BadName(MountError):
    """Imports have names in UTF-8."""


class NoSpecial(MountError):
    """Devices, sockets and pipes have no content to import."""


class NoOwnFacts(MountError):
    """Extended attributes cannot be given."""


class NoSuchFact(MountError):
    """The node has no such extended attribute."""


class WrongKind(MountError):
    """The operation does not go with the node: reading a directory, listing a file."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.number = number


class Overdue(MountError):
    """The data did not come within the mount's deadline, or too many requests wait for data already."""


class ShardBroken(MountError):
    """The shard cannot be read: its state says why."""


class AgentAway(MountError):
    """What was asked needs the agent, and it does not answer."""


ERRNO_BY_CLASS: Final[dict[type[BaseException], int]] = {
    NoSuchName: errno.ENOENT,
    NameTooLong: errno.ENAMETOOLONG,
    StaleNode: errno.ESTALE,
    ReadOnlyTree: errno.EROFS,
    NoSuchFact: errno.ENODATA,
    NameTaken: errno.EEXIST,
    InUse: errno.EBUSY,
    NotEmpty: errno.ENOTEMPTY,
    NotAllowed: errno.EACCES,
    NoRoom: errno.ENOSPC,
    NoSource: errno.ENOENT,
    OwnTree: errno.ELOOP,
    UnfitSource: errno.EINVAL,
    NotWhole: errno.EIO,
    OtherPlace: errno.EXDEV,
    BadName: errno.EILSEQ,
    NoSpecial: errno.EPERM,
    NoOwnFacts: errno.EOPNOTSUPP,
    Overdue: errno.ETIMEDOUT,
    ShardBroken: errno.EIO,
    AgentAway: errno.EHOSTDOWN,
    car.HashMismatch: errno.EIO,
    car.Truncated: errno.EIO,
    car.Malformed: errno.EIO,
    car.NotUnixFs: errno.EIO,
    car.BlockNotFound: errno.EIO,
    car.LimitExceeded: errno.EFBIG,
    car.UnknownHash: errno.EOPNOTSUPP,
    car.UnknownCodec: errno.EOPNOTSUPP,
    car.CarError: errno.EIO,
    MemoryError: errno.ENOMEM,
}
"""Looked up along the class's bases, so a subclass that is not here has its parent's."""

_PASSED_ON: Final = frozenset(
    {errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EACCES, errno.EPERM, errno.ETIMEDOUT}
)
"""What an OSError from reading a CAR may show as itself; any other is EIO (an ENOENT of the CAR is not one of
the name).
"""

FAULTS: Final = (
    car.CarError,
    ShardBroken,
    Overdue,
    AgentAway,
    NoRoom,
    NotWhole,
    UnfitSource,
    NotAllowed,
    OSError,
)
"""What an operator should see in the log; the rest are answers."""


def errno_of(error: BaseException) -> int | None:
    """The errno to answer; None for an error that nobody foresaw, which is a bug."""
    if isinstance(error, WrongKind):
        return error.number
    if isinstance(error, OSError):
        return error.errno if error.errno in _PASSED_ON else errno.EIO
    for base in type(error).__mro__:
        if base in ERRNO_BY_CLASS:
            return ERRNO_BY_CLASS[base]
    return None


class FaultLog:
    """Says each fault once an hour: a reader that tries again and again must not fill the log."""

    def __init__(self, *, quiet_s: float = 3600.0, most: int = 4096) -> None:
        self._quiet_s = quiet_s
        self._most = most
        self._said: OrderedDict[tuple[object, ...], float] = OrderedDict()

    def report(self, error: BaseException, *, shard: str, path: str) -> bool:
        """Logs the fault unless it was said of late; gives whether it did."""
        cid = getattr(error, "cid", None)
        offset = getattr(error, "offset", None)
        what = (shard, type(error), cid if cid is not None else offset if offset is not None else path)
        now = time.monotonic()
        said = self._said.get(what)
        if said is not None and now - said < self._quiet_s:
            return False
        self._said[what] = now
        self._said.move_to_end(what)
        while len(self._said) > self._most:
            self._said.popitem(last=False)
        whose = shard if shard.startswith(("import ", "retrieval ")) else f"shard {shard or '-'}"
        logger.warning("%s, file %s: %s", whose, path, str(error) or type(error).__name__)
        return True
