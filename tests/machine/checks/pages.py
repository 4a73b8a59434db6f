"""Commands of the pages that need a systemd (blocks `console machine`) do what the page shows."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.machine.guest import CHECKOUT
from tests.shown import commands, disagreements

MACHINES = ("box",)


def check() -> None:
    blocks = 0
    for page in sorted((Path(CHECKOUT) / "docs").rglob("*.md")):
        shown = list(commands(page.read_text(), {"machine"}))
        blocks += bool(shown)
        with TemporaryDirectory() as folder:
            assert not (found := list(disagreements(shown, Path(folder), os.environ))), "\n".join(found)
    assert blocks
