"""`python -m tests.units`: has systemd verify the unit files, and says so where there is no systemd-analyze."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from agent.units import unit_files

INSTANCES = {
    "carfs-mount@.service": "carfs-mount@mnt-carfs.service",
    "carfs-worker@.service": "carfs-worker@x.service",
}


def rendered(folder: Path) -> list[str]:
    """Writes the units into a folder, for a program that is there; gives their names, of templates with an instance."""
    names = []
    for one in unit_files(Path("/bin/true")):
        if one.place.startswith("systemd/"):
            name = Path(one.place).name
            (folder / name).write_text(one.text)
            names.append(INSTANCES.get(name, name))
    return names


def verified() -> str:
    """What `systemd-analyze verify` says of them; "" is well."""
    with tempfile.TemporaryDirectory() as folder:
        names = [f"{folder}/{name}" for name in rendered(Path(folder))]
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", *names],
            capture_output=True, text=True, check=False,
            env={"PATH": "/usr/bin:/bin", "SYSTEMD_UNIT_PATH": f"{folder}:"},
        )  # fmt: skip
    said = done.stdout + done.stderr
    return said or ("" if done.returncode == 0 else f"exit code {done.returncode}")


def exposure(unit: str) -> float:
    """What `systemd-analyze security` makes of a unit: 0 to 10, less is safer."""
    with tempfile.TemporaryDirectory() as folder:
        rendered(Path(folder))
        done = subprocess.run(
            ["systemd-analyze", "security", "--offline=true", "--no-pager", f"{folder}/{unit}"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    return float(done.stdout.splitlines()[-1].partition(":")[2].split()[0])


if __name__ == "__main__":
    if shutil.which("systemd-analyze") is None:
        sys.exit(print("carfs: unit files are not verified: there is no systemd-analyze", file=sys.stderr))
    if said := verified():
        sys.exit(f"carfs: systemd/: {said}")
