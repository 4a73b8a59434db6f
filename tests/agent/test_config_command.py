"""`carfs config`: each key with what has set it, and in words."""

from __future__ import annotations

import json
import os
from pathlib import Path

import msgspec
import pytest

from agent import config_keys
from agent.cli.main import main
from agent.config import Config


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith(("CARFS_", "LOTUS_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("CARFS_PATH", str(tmp_path))
    return tmp_path


def test_every_key_has_a_meaning_and_its_value(home: Path) -> None:
    found = list(config_keys.keys(home / "config.toml", required=False, environ={}))
    defaults = msgspec.to_builtins(Config())
    assert {key.name: key.value for key in found} == {
        f"{section}.{name}": value for section, values in defaults.items() for name, value in values.items()
    }
    assert [key.name for key in found if not key.meaning] == []


def test_show_says_what_has_set_each_key(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "config.toml").write_text("[DAGStore]\nMaxConcurrentIndex = 7\nMaxConcurrentUnseals = 5\n")
    monkeypatch.setenv("CARFS_WORKERS_COUNT", "3")
    monkeypatch.setenv("LOTUS_DAGSTORE_COPY_CONCURRENCY", "2")
    assert main(["config", "show", "--json"]) == 0
    keys = {one["Key"]: one for one in json.loads(capsys.readouterr().out)}
    set_by = {name: (one["Value"], one["Origin"]) for name, one in keys.items() if one["Origin"] != "default"}
    assert set_by == {
        "workers.count": (3, "CARFS_WORKERS_COUNT"),
        "dagstore.max_concurrent_index": (7, str(home / "config.toml")),
        "dagstore.max_concurrent_ready_fetches": (2, "LOTUS_DAGSTORE_COPY_CONCURRENCY"),
    }
    assert main(["config", "show"]) == 0
    assert "dagstore.max_concurrent_index" in capsys.readouterr().out


def test_explain_says_what_it_means_and_how_to_set_it(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "explain", "dagstore.history_kept"]) == 0
    assert capsys.readouterr().out == (
        "dagstore.history_kept: transitions kept of each shard\n"
        "is 64, set by default; by default 64\n"
        "to set it, history_kept = … under [dagstore] in config.toml, "
        "or CARFS_DAGSTORE_HISTORY_KEPT=… in the environment\n"
    )
    assert main(["config", "explain", "dagstore.none"]) == 3


def test_check_names_what_is_wrong(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "check"]) == 0
    assert capsys.readouterr().out == "The configuration is good; set: nothing, all is as by default\n"
    (home / "config.toml").write_text("[dagstore]\nmax_index = 7\n")
    assert main(["config", "check"]) == 1
    assert "config.toml: dagstore.max_index: there is no such key" in capsys.readouterr().err
    assert main(["config", "check", "--config", str(home / "none")]) == 1
