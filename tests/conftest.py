"""Rules that hold for every test: warnings in the log are announced, and what cannot run says why."""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from tests import fixtures, machine

# The same examples each run, so that a red run means a changed program; HYPOTHESIS_PROFILE=explore roams.
hypothesis.settings.register_profile("carfs", derandomize=True, deadline=None)
hypothesis.settings.register_profile("explore", deadline=None, max_examples=5_000, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "carfs"))

# A job in the background of a shell has SIGINT ignored, and so would every command whose Ctrl-C is tested.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ExpectWarning = Callable[[str], None]


def pytest_report_header() -> list[str]:
    """Lines at the top of a run: what of the surroundings is there."""
    samples = (
        fixtures.FOLDER if fixtures.PRESENT else f"absent at {fixtures.FOLDER}: tests that read them skip"
    )
    curl = shutil.which("curl") or "absent: what docs/agent.md does with it is not run"
    return [
        f"sample CARs: {samples}",
        f"FUSE: {fixtures.why_no_fuse() or 'available'}",
        f"curl: {curl}",
        *(f"{kind}: {machine.why_not(kind) or 'can be booted'}" for kind in machine.KINDS),
    ]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips tests marked `fuse` or `privileged` where they cannot run, with the reason."""
    why_no_fuse = fixtures.why_no_fuse()
    for item in items:
        if why_no_fuse and item.get_closest_marker("fuse"):
            item.add_marker(pytest.mark.skip(reason=why_no_fuse))
        if os.geteuid() != 0 and item.get_closest_marker("privileged"):
            item.add_marker(pytest.mark.skip(reason="needs root"))


@pytest.fixture
def expect_warning(caplog: pytest.LogCaptureFixture) -> Iterator[ExpectWarning]:
    """Announces a log line of level WARNING or above: `expect_warning(pattern)`, searched for in the message.

    A line that nobody announced fails its test, and so does an announced one that did not come.
    """
    announced: list[str] = []
    yield announced.append
    lines = [
        record.getMessage() for record in caplog.get_records("call") if record.levelno >= logging.WARNING
    ]
    surprising = [line for line in lines if not any(re.search(pattern, line) for pattern in announced)]
    assert not surprising, f"warnings in the log that the test did not announce: {surprising}"
    missing = [pattern for pattern in announced if not any(re.search(pattern, line) for line in lines)]
    assert not missing, f"announced warnings that did not come: {missing}"


@pytest.fixture(autouse=True)
def _no_surprising_warnings(expect_warning: ExpectWarning) -> None:
    """Makes every test use `expect_warning`."""


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps tests out of the user's own `~/.carfs` and caches."""
    home: Path = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("CARFS_PATH", str(home / ".carfs"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / ".cache"))
