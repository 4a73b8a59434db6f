"""What of the surroundings a test may find absent: sample CARs of other implementations, and FUSE.

The folder is `$CARFS_FIXTURES`, else `../shared/fixtures` beside the repository, described in its MANIFEST.md.
A test that needs a file which is not there skips and says so.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
FOLDER = Path(os.environ.get("CARFS_FIXTURES") or REPOSITORY.parent / "shared" / "fixtures")
PRESENT = FOLDER.is_dir()

WHY_ABSENT = f"no sample CARs at {FOLDER} (set CARFS_FIXTURES)"
needs_fixtures = pytest.mark.skipif(not PRESENT, reason=WHY_ABSENT)


def fixture(path: str) -> Path:
    """The sample file at `path` below the folder; skips the calling test where it is absent."""
    found = FOLDER / path
    if not found.exists():
        pytest.skip(f"no sample file {path} in {FOLDER}" if PRESENT else WHY_ABSENT)
    return found


def fixtures(*patterns: str) -> list[Path]:
    """All sample files that match one of the patterns, sorted: for parametrised tests (none where absent)."""
    return sorted({found for pattern in patterns for found in FOLDER.glob(pattern)}) if PRESENT else []


def why_no_fuse() -> str | None:
    """Why nothing can be mounted here and what to do about it; None where it can."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "no /dev/fuse that can be opened (modprobe fuse; in a container: --device /dev/fuse --cap-add SYS_ADMIN)"
    if shutil.which("fusermount3") is None:
        return "no fusermount3 (apt-get install fuse3)"
    return None
