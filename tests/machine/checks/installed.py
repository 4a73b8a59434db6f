"""`carfs systemd install`: agent and mount run as units, come back after kills, and go again."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from tests.machine.agents import CARFS, write_car
from tests.machine.guest import show, until

MACHINES = ("run", "box")
AGENT = "carfs-agent.service"
MOUNT = "carfs-mount@mnt-carfs.service"
PLACE = Path("/mnt/carfs")
ENVIRONMENT = {**os.environ, "CARFS_PATH": "/var/lib/carfs"}


def carfs(*arguments: str) -> str:
    done = subprocess.run([CARFS, *arguments], env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def kill(unit: str) -> None:
    os.kill(int(show(unit, "MainPID")), signal.SIGKILL)


def listed() -> list[str]:
    done = subprocess.run(["ls", str(PLACE / "shards")], capture_output=True, text=True, check=False)
    return done.stdout.split()


def check() -> None:
    car = write_car(Path("/srv/photos.car"), 3)
    try:
        print(carfs("systemd", "install", "--mount", str(PLACE)))
        assert show(AGENT, "ActiveState") == show(MOUNT, "ActiveState") == "active"
        assert Path(f"/proc/{show(AGENT, 'MainPID')}").owner() == "carfs"
        assert "headroom" in show(AGENT, "StatusText")  # and so the watchdog is fed
        carfs("dagstore", "register-shard", "--quiet", "photos", str(car))
        until(lambda: listed() == ["photos"])
        with (PLACE / "shards/photos/data.car").open("rb", buffering=0) as reading:
            assert reading.read(10) == car.read_bytes()[:10]
            subprocess.run(["systemctl", "restart", AGENT], check=True)
            assert reading.read(10) == car.read_bytes()[10:20]  # not one error
        kill(MOUNT)
        until(lambda: listed() == ["photos"])
        kill(AGENT)
        until(lambda: show(AGENT, "ActiveState") == "active" and listed() == ["photos"])
        subprocess.run(["systemctl", "stop", AGENT], check=True)
        assert "photos" in carfs("dagstore", "list-shards")  # the call starts it
        assert "as here" in carfs("systemd", "status")
        print(carfs("systemd", "uninstall"))
        assert not PLACE.is_mount() and Path("/var/lib/carfs/carfs.db").exists()
        assert not list(Path("/etc/systemd/system").glob("carfs*"))
    except BaseException:
        subprocess.run(["journalctl", "--no-pager", "-n", "60", "-u", AGENT, "-u", MOUNT], check=False)
        raise
    finally:
        subprocess.run([CARFS, "systemd", "uninstall", "--purge"], check=False, capture_output=True)
