"""Every command that README and docs/ show does what they show."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from tests.fixtures import REPOSITORY
from tests.shown import Shown, commands, disagreements

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
_LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)(#[^)]*)?\)")


def environment() -> dict[str, str]:
    """The caller's, with the `carfs` under test first in the path."""
    return os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_commands_do_what_the_page_shows(page: Path, tmp_path: Path) -> None:
    shown = list(commands(page.read_text()))
    assert not list(disagreements(shown, tmp_path, environment())), page.name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    targets = [match[1] for match in _LINK.finditer(page.read_text())]
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_a_page_with_a_wrong_line_is_found_out(tmp_path: Path) -> None:
    page = "```console\n$ printf 'a 1\\nb\\n'\na …\nb\n$ echo more\n…\n$ echo yes\nno\n$ false\n```\n"
    shown = list(commands(page))
    assert [one.command for one in shown] == ["printf 'a 1\\nb\\n'", "echo more", "echo yes", "false"]
    found = [line.splitlines()[0] for line in disagreements(shown, tmp_path, environment())]
    assert found == ["line 7: $ echo yes", "line 9: $ false"]


def test_shown_errors_must_fail() -> None:
    assert Shown("carfs x", "carfs: No such command 'x'.\n", 1).may_fail
