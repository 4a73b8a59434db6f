"""The one table of errors, and the log of faults."""

from __future__ import annotations

import errno
import logging

import pytest

from carlib import errors as car
from carlib.cid import Cid
from fusefs.errors import ERRNO_BY_CLASS, FaultLog, MountError, NoSuchName, Overdue, WrongKind, errno_of

CID = Cid.of(b"x")


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (car.HashMismatch(CID), errno.EIO),
        (car.Truncated("short"), errno.EIO),
        (car.Malformed("odd"), errno.EIO),
        (car.NotUnixFs("a file"), errno.EIO),
        (car.BlockNotFound(CID), errno.EIO),
        (car.LimitExceeded("depth", 2, 1), errno.EFBIG),
        (car.UnknownHash(0x22), errno.EOPNOTSUPP),
        (car.UnknownCodec(0x99), errno.EOPNOTSUPP),
        (NoSuchName(), errno.ENOENT),
        (Overdue("late"), errno.ETIMEDOUT),
        (WrongKind("a folder", errno.EISDIR), errno.EISDIR),
        (OSError(errno.EMFILE, "many"), errno.EMFILE),
        (FileNotFoundError(errno.ENOENT, "the CAR"), errno.EIO),
        (MemoryError(), errno.ENOMEM),
    ],
)
def test_each_error_has_its_errno(error: Exception, number: int) -> None:
    assert errno_of(error) == number


def test_what_nobody_foresaw_has_none() -> None:
    assert errno_of(KeyError("bug")) is None


def test_every_class_of_ours_and_of_carlib_has_an_errno() -> None:
    for kind in [*MountError.__subclasses__(), *car.CarError.__subclasses__()]:
        if kind is not WrongKind:
            assert any(base in ERRNO_BY_CLASS for base in kind.__mro__), kind


def test_a_fault_is_said_once_for_each_block(
    caplog: pytest.LogCaptureFixture, expect_warning: object
) -> None:
    assert callable(expect_warning)
    expect_warning("shard s, file f")
    log = FaultLog()
    with caplog.at_level(logging.WARNING):
        said = [
            log.report(car.HashMismatch(CID, source="a.car", offset=9), shard="s", path="f") for _ in range(3)
        ]
        other = log.report(car.HashMismatch(Cid.of(b"y")), shard="s", path="f")
    assert (said, other) == ([True, False, False], True)
    assert caplog.messages[0] == f"shard s, file f: a.car: offset 9: block does not match its CID {CID}"


def test_the_log_of_faults_is_bounded(expect_warning: object) -> None:
    assert callable(expect_warning)
    expect_warning("short")
    log = FaultLog(most=10)
    for number in range(50):
        log.report(car.Truncated("short", offset=number), shard="s", path="f")
    assert log.report(car.Truncated("short", offset=0), shard="s", path="f")
