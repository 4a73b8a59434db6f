"""The disk image that `box` and `run` boot: Debian with systemd, and what carfs depends on; built once per machine.

It lies in $CARFS_MACHINES, else /var/tmp/carfs-machines, in a folder named for all that goes into it: another version
of a dependency in the lock file makes another image, a change of carfs does not.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import time
import tomllib
from pathlib import Path
from tempfile import NamedTemporaryFile

REPOSITORY = Path(__file__).resolve().parent.parent.parent
HERE = Path(__file__).resolve().parent
CACHE = Path(os.environ.get("CARFS_MACHINES") or "/var/tmp/carfs-machines")
UNUSED_S = 14 * 24 * 3600  # an image that nothing has booted for so long goes with the next build
_NAME = re.compile(r"[A-Za-z0-9._-]+")


def requirements() -> str:
    """What carfs needs to run, out of the lock file, which has what its tests need as well."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    blocks: list[
        tuple[str, str, set[str]]
    ] = []  # a package may be there more than once, for different Pythons
    for block in re.split(r"\n(?=[A-Za-z0-9])", (REPOSITORY / "requirements.lock").read_text()):
        pin, _, via = block.partition("    # via")
        if "==" in pin.partition("\n")[0]:
            parents = {line.strip(" #") for line in via.splitlines()}
            blocks.append((pin.partition("==")[0], pin, parents))
    needed = {package(requirement) for requirement in project["dependencies"]}
    while more := {name for name, _, parents in blocks if parents & needed} - needed:
        needed |= more
    return "".join(pin.rstrip() + "\n" for name, pin, _ in blocks if name in needed)


def package(requirement: str) -> str:
    """Its name, without versions."""
    match = _NAME.match(requirement)
    assert match, requirement
    return match[0].lower()


def key() -> str:
    """A hash of all that goes into the image."""
    parts = [requirements().encode(), (REPOSITORY / "requirements-build.lock").read_bytes()]
    parts += [(HERE / name).read_bytes() for name in ("build", "job")]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:12]


def folder() -> Path:
    return CACHE / f"bookworm-{key()}"


def is_built() -> bool:
    return (folder() / "ok").exists()


def keep() -> None:
    """Notes that it is in use."""
    (folder() / "ok").touch()


def why_not_build() -> str:
    """Why no image can be built here; "" where it can."""
    if os.geteuid() != 0:
        return "only root can build one"
    if shutil.which("apt-get") is None:
        return "it is built with Debian's apt-get, which is not here"
    return ""


def build() -> str:
    """Builds the image unless it is there; gives why it is not there now, or ""."""
    if is_built():
        keep()
        return ""
    if why_not := why_not_build():
        return why_not
    CACHE.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile("w", prefix="carfs-requirements.") as wanted:
        wanted.write(requirements())
        wanted.flush()
        command = [str(HERE / "build"), str(folder()), wanted.name, key()]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        return f"the build failed, with exit code {done.returncode}"
    remove_unused()
    return ""


def remove_unused() -> None:
    """Old images go, which differ in a dependency and would stay for good."""
    for used in CACHE.glob("*/ok"):
        if time.time() - used.stat().st_mtime > UNUSED_S:
            shutil.rmtree(used.parent)
            used.parent.with_name(f"{used.parent.name}.lock").unlink(missing_ok=True)
