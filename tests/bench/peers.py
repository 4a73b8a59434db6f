"""The other tools, in versions that are pinned, installed below `.bench` only; one that cannot be had is said so.

go-car's own `car` command is not published as a module of its own, so it is used where somebody has put it: at
`.bench/go-car/car`, or as `car` in the path.  A program of a page (`gocar/main.go`) calls the library behind it for
speed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

GO_CAR = "v2.17.0"  # as in gocar/go.mod
KUBO = "0.43.0"  # as in kubo/go.mod
IPFS_CAR = "3.1.0"
RATARMOUNT = "1.3.0"
LIBIPLD = "3.5.0"
INSTALL_TIMEOUT_S = 1_200  # of which kubo takes four minutes on two cores


@dataclass(frozen=True, slots=True)
class Peers:
    """Paths of the programs, None where there is none."""

    go_car: Path | None
    go_car_tool: Path | None
    ipfs_car: Path | None
    ratarmount: Path | None
    kubo: Path | None
    libipld: Path | None
    """A Python that has it."""
    lotus_client: Path | None
    kubo_client: Path | None


def found(folder: Path) -> Peers:
    """What is installed below `folder` already."""
    there = {name: folder / path if (folder / path).exists() else None for name, path in PROGRAMS.items()}
    if there["go_car_tool"] is None and (tool := shutil.which("car")) is not None:
        there["go_car_tool"] = Path(tool)
    return Peers(**there)


def install(folder: Path) -> Peers:
    """Installs what is not there yet; says of each that fails what was tried."""
    for name, (needs, make) in MAKERS.items():
        _have(name, folder / PROGRAMS[name], needs, make)
    return found(folder)


def _have(name: str, program: Path, needs: str, make: Callable[[Path], None]) -> None:
    if program.exists():
        return
    if shutil.which(needs) is None:
        print(f"{name}: left out, there is no {needs} here")
        return
    try:
        make(program)
    except (OSError, subprocess.SubprocessError) as error:
        print(f"{name}: left out, it could not be installed: {_reason(error)}")


def _build_go_car(program: Path) -> None:
    source = Path(__file__).with_name("gocar")
    shutil.copytree(source, program.parent, dirs_exist_ok=True)
    _run(["go", "mod", "tidy"], program.parent)
    _run(["go", "build", "-o", program.name, "."], program.parent)


def _build_kubo(program: Path) -> None:
    """As `go install`, which would ask for more of the module than a proxy needs to have."""
    shutil.copytree(Path(__file__).with_name("kubo"), program.parent, dirs_exist_ok=True)
    _run(["go", "build", "-o", program.name, "github.com/ipfs/kubo/cmd/ipfs"], program.parent)


def _install_ipfs_car(program: Path) -> None:
    prefix = program.parents[2]
    prefix.mkdir(parents=True, exist_ok=True)
    _run(
        ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", ".", f"ipfs-car@{IPFS_CAR}"],
        prefix,
    )


def _install_lotus_client(program: Path) -> None:
    """Lotus' JavaScript client; nothing of it is a program, so its folder counts."""
    _install_locked(program.parents[2])


def _install_kubo_client(program: Path) -> None:
    """Kubo's JavaScript client, likewise."""
    _install_locked(program.parents[1])


def _install_locked(prefix: Path) -> None:
    """Packages of npm, in the versions of the lock file beside this module."""
    shutil.copytree(Path(__file__).with_name(prefix.name), prefix, dirs_exist_ok=True)
    _run(["npm", "ci", "--silent", "--ignore-scripts", "--no-audit", "--no-fund"], prefix)


def _install_ratarmount(program: Path) -> None:
    _install_from_pypi(program, f"ratarmount=={RATARMOUNT}")


def _install_libipld(program: Path) -> None:
    _install_from_pypi(program, f"libipld=={LIBIPLD}")


def _install_from_pypi(program: Path, package: str) -> None:
    """In an environment of its own, complete or not there."""
    environment = program.parents[1]
    try:
        _run([sys.executable, "-m", "venv", str(environment)], Path())
        _run([str(environment / "bin" / "pip"), "install", "--quiet", package], Path())
    except BaseException:
        shutil.rmtree(environment, ignore_errors=True)
        raise


def _run(command: Sequence[str], folder: Path) -> None:
    subprocess.run(
        command, cwd=folder, check=True, timeout=INSTALL_TIMEOUT_S, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, env=os.environ | {"GOFLAGS": "-mod=mod"},
    )  # fmt: skip


def _reason(error: Exception) -> str:
    """The last line that the installer said."""
    said = error.stderr.strip().splitlines() if isinstance(error, subprocess.CalledProcessError) else []
    return said[-1] if said else str(error)


PROGRAMS = {
    "go_car": "gocar/gocar",
    "go_car_tool": "go-car/car",
    "ipfs_car": "npm/node_modules/.bin/ipfs-car",
    "ratarmount": "ratarmount/bin/ratarmount",
    "kubo": "kubo/ipfs",
    "libipld": "libipld/bin/python",
    "lotus_client": "lotusclient/node_modules/@filecoin-shipyard/lotus-client-rpc",
    "kubo_client": "kuborpc/node_modules/kubo-rpc-client",
}
MAKERS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "go_car": ("go", _build_go_car),
    "ipfs_car": ("npm", _install_ipfs_car),
    "ratarmount": (sys.executable, _install_ratarmount),
    "libipld": (sys.executable, _install_libipld),
    "kubo": ("go", _build_kubo),
    "lotus_client": ("npm", _install_lotus_client),
    "kubo_client": ("npm", _install_kubo_client),
}
"""What a program needs to be installed, and what installs it."""

if __name__ == "__main__":
    install(Path(".bench").resolve())
