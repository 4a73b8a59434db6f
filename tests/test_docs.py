"""Every command that README and docs/ show does what they show."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures import REPOSITORY, why_no_fuse
from tests.network.hosts import why_none
from tests.shown import Shown, commands, disagreements

README = REPOSITORY / "README.md"
PAGES = [README, *sorted((REPOSITORY / "docs").rglob("*.md"))]
KINDS = {""} | (set() if why_no_fuse() else {"fuse"}) | ({"curl"} if shutil.which("curl") else set())
WALKTHROUGH = REPOSITORY / "docs" / "deal-walkthrough.md"
_LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)(#[^)]*)?\)")


def environment() -> dict[str, str]:
    """The caller's, with the `carfs` under test first in the path, and stdout and stderr in order as on a terminal."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return os.environ | {"PATH": path, "PYTHONUNBUFFERED": "1"}


def agree(shown: list[Shown], folder: Path) -> None:
    if found := list(disagreements(shown, folder, environment())):
        pytest.fail("\n".join(found), pytrace=False)


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Path]:
    """A folder in which `make up` runs, with a small big file."""
    command = [sys.executable, "-m", "tests.demo", "--small"]
    process = subprocess.Popen(
        command, cwd=REPOSITORY, env=os.environ | {"CARFS_DEMO": str(tmp_path / ".demo")},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, process_group=0,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        said = []
        for line in process.stdout:
            said.append(line)
            if line.startswith("Ready."):
                break
        else:
            pytest.fail("".join(said))
        yield tmp_path
    finally:
        os.killpg(process.pid, signal.SIGINT)  # what Ctrl-C does
        process.communicate(timeout=30)
    assert not (tmp_path / ".demo" / "mnt").is_mount()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_commands_do_what_the_page_shows(page: Path, tmp_path: Path) -> None:
    agree(list(commands(page.read_text(), KINDS)), tmp_path)


@pytest.fixture
def two_namespaces() -> Iterator[None]:
    """That the page makes; what it leaves of them goes."""
    if reason := why_no_fuse() or why_none() or ("" if shutil.which("ip") else "no ip (iproute2)"):
        pytest.skip(reason)
    yield
    for name in ("carfs-client", "carfs-provider"):
        if Path("/run/netns", name).exists():
            subprocess.run(["ip", "netns", "del", name], check=False)


@pytest.mark.fuse
@pytest.mark.usefixtures("two_namespaces")
def test_the_walk_of_a_deal_between_two_namespaces_does_what_it_shows(tmp_path: Path) -> None:
    shown = list(commands(WALKTHROUGH.read_text(), {"netns"}))
    assert len(shown) > 30
    agree(shown, tmp_path)
    assert not any(Path("/run/netns", name).exists() for name in ("carfs-client", "carfs-provider"))


@pytest.mark.fuse
def test_make_up_shows_what_readme_says(demo: Path) -> None:
    shown = list(commands(README.read_text(), {"demo"}))
    assert len(shown) > 5
    agree(shown, demo)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    targets = [match[1] for match in _LINK.finditer(page.read_text())]
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_a_page_with_a_wrong_line_is_found_out(tmp_path: Path) -> None:
    page = "```console\n$ printf 'a 1\\nb\\n'\na …\nb\n$ echo more\n…\n$ echo yes\nno\n$ false\n```\n"
    shown = list(commands(page, {""}))
    assert [one.command for one in shown] == ["printf 'a 1\\nb\\n'", "echo more", "echo yes", "false"]
    found = [line.splitlines()[0] for line in disagreements(shown, tmp_path, environment())]
    assert found == ["line 7: $ echo yes", "line 9: $ false"]


def test_shown_errors_must_fail() -> None:
    assert Shown("carfs x", "carfs: No such command 'x'.\n", 1).may_fail
