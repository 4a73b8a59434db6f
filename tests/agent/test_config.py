"""The configuration: every key has an effect, and whatever is not a key is refused by name."""

from __future__ import annotations

import grp
import os
from pathlib import Path

import msgspec
import pytest

from agent.config import Config, ConfigError, LogConfig, RpcConfig, WorkersConfig, load


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def _toml(value: object) -> str:
    return repr(list(value) if isinstance(value, tuple) else value)


def test_without_a_file_the_defaults_hold(tmp_path: Path) -> None:
    assert load(tmp_path / "none", required=False, environ={}) == Config()


def test_a_file_that_was_asked_for_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="none: there is no such file"):
        load(tmp_path / "none", required=True, environ={})


def test_all_keys_can_be_set_in_the_file_and_in_the_environment(tmp_path: Path) -> None:
    expected = Config(
        RpcConfig(
            socket="/run/x.sock",
            socket_mode="0660",
            admin_group="adm",
            event_buffer=5,
            stop_grace_s=2.5,
            listen=("127.0.0.1:3453", "[::1]:3453"),
            allowed_hosts=("carfs.example",),
            allowed_origins=("https://example.org",),
        ),
        WorkersConfig(count=3, idle_timeout_s=1.5),
        LogConfig(level="debug"),
    )
    text = "\n".join(
        f"[{section}]\n" + "\n".join(f"{key} = {_toml(value)}" for key, value in values.items())
        for section, values in msgspec.to_builtins(expected).items()
    )
    assert load(written(tmp_path / "c", text), required=True, environ={}) == expected
    variables = {
        f"CARFS_{section.upper()}_{key.upper()}": ",".join(value) if isinstance(value, tuple) else str(value)
        for section, values in msgspec.to_builtins(expected).items()
        for key, value in values.items()
    }
    assert load(tmp_path / "none", required=False, environ=variables) == expected


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    path = written(tmp_path / "c", "[workers]\ncount = 1\nidle_timeout_s = 5")
    config = load(path, required=True, environ={"CARFS_WORKERS_COUNT": "2", "CARFS_PATH": "/x"})
    assert config.workers == WorkersConfig(count=2, idle_timeout_s=5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[rpc]\nsockt = 'x'", "c.toml: rpc.sockt: there is no such key"),
        ("[rcp]\nsocket = 'x'", "c.toml: rcp: there is no such key"),
        ("[workers]\ncount = 'two'", "c.toml: workers.count: Expected `int`, got `str`"),
        ("[workers]\ncount = -1", "c.toml: workers.count: Expected `int` >= 0"),
        ("[log]\nlevel = 'loud'", "c.toml: log.level: Invalid enum value 'loud'"),
        ("[rpc]\nsocket_mode = 'rw'", "c.toml: rpc.socket_mode: Expected `str` matching regex"),
        ("[rpc", "c.toml: not TOML"),
    ],
)
def test_what_is_wrong_is_named_with_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load(written(tmp_path / "c.toml", text), required=True, environ={})
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("CARFS_WORKERS_COUNT", "many", "CARFS_WORKERS_COUNT='many': Expected `int`"),
        (
            "CARFS_WORKERS_CUONT",
            "1",
            "CARFS_WORKERS_CUONT: there is no key 'cuont'; there is count, idle_timeout_s",
        ),
    ],
)
def test_what_is_wrong_in_the_environment_is_named(
    tmp_path: Path, name: str, value: str, message: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        load(tmp_path / "none", required=False, environ={name: value})
    assert message in str(raised.value)


def test_no_count_means_one_worker_for_each_cpu_that_is_ours() -> None:
    assert Config().worker_count() == len(os.sched_getaffinity(0))
    assert Config(workers=WorkersConfig(count=7)).worker_count() == 7


def test_the_admin_group_is_looked_up_by_name() -> None:
    group = grp.getgrall()[-1]
    assert Config(RpcConfig(admin_group=group.gr_name)).admin_gid() == group.gr_gid
    assert Config(RpcConfig(admin_group="no such group")).admin_gid() is None
    assert Config(RpcConfig(admin_group="")).admin_gid() is None
