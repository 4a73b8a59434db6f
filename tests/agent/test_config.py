"""The configuration: every key has an effect, and whatever is not a key is refused by name."""

from __future__ import annotations

import grp
import json
from pathlib import Path

import msgspec
import pytest

from agent.config import Config, ConfigError, LogConfig, RpcConfig, WorkersConfig, load, resource_overrides
from agent.dagstore.mounts.config import MountsConfig
from agent.dagstore.scrub.schedule import ScrubConfig
from agent.dagstore.settings import LOTUS_NAMES, DagstoreConfig, duration_s
from agent.parts import scheduler_settings
from agent.scheduler.order import Assigner, Policy
from agent.scheduler.overrides import NONE
from agent.scheduler.scheduler import Settings


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


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
        DagstoreConfig(
            root_dir="/srv/dagstore",
            max_concurrent_index=1,
            max_concurrent_ready_fetches=2,
            max_concurrent_unseals=3,
            max_concurrency_storage_calls=4,
            gc_interval_s=5.5,
            recover_on_start="now",
            retry_attempts=6,
            retry_max_s=7.5,
            breaker_failures=8,
            breaker_pause_s=9.5,
            remote_fresh_s=10.5,
            history_kept=10,
            trace_buffer=11,
            transients_max_bytes=12,
            transients_high=0.5,
            transients_low=0.25,
        ),
        MountsConfig(allow_private=True, connections=13, ca_file="/etc/ca.pem"),
        ScrubConfig(
            interval_days=1.5,
            depth="index",
            remote_depth="none",
            remote_sample=7,
            bandwidth=9,
            share=0.25,
            repair=False,
        ),
    )
    text = "\n".join(
        f"[{section}]\n" + "\n".join(f"{key} = {json.dumps(value)}" for key, value in values.items())
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
        (
            "[dagstore]\nmax_concurrent_index = -1",
            "c.toml: dagstore.max_concurrent_index: Expected `int` >= 0",
        ),
        (
            "[dagstore]\nrecover_on_start = 'soon'",
            "c.toml: dagstore.recover_on_start: Invalid enum value 'soon'",
        ),
        ("[dagstore]\nGCInterval = '1 minute'", "c.toml: dagstore.GCInterval: '1 minute' is not a duration"),
        ("[dagstore]\nRootDir = 'a'\nroot_dir = 'b'", "c.toml: dagstore.root_dir is given twice"),
        ("[DAGStore]\n[dagstore]", "c.toml: DAGStore: it is given as dagstore, too"),
        ("[resources]\nmemory = 'lots'", "c.toml: resources: 'lots' is not a size such as 512MiB"),
        ("[resources]\npressure = 101", "c.toml: resources.pressure: Expected `float` <= 100"),
        ("[scheduler]\nassigner = 'random'", "c.toml: scheduler.assigner: Invalid enum value 'random'"),
        ("[scheduler]\npatience_s = 0", "c.toml: scheduler.patience_s: Expected `float` > 0"),
        ("[dagstore]\ntransients_low = 0.95", "c.toml: dagstore: transients_low is 0.95: it must be below"),
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


def test_lotus_section_can_be_pasted_as_it_is(tmp_path: Path) -> None:
    text = """
    [DAGStore]
    RootDir = "/srv/dagstore"
    MaxConcurrentIndex = 6
    MaxConcurrentReadyFetches = 7
    MaxConcurrentUnseals = 8
    MaxConcurrencyStorageCalls = 9
    GCInterval = "1m30s"
    """
    config = load(written(tmp_path / "c", text), required=True, environ={})
    assert config.dagstore == DagstoreConfig(
        root_dir="/srv/dagstore",
        max_concurrent_index=6,
        max_concurrent_ready_fetches=7,
        max_concurrent_unseals=8,
        max_concurrency_storage_calls=9,
        gc_interval_s=90,
    )


def test_the_defaults_are_lotus_own() -> None:
    ours = DagstoreConfig()
    values = [getattr(ours, LOTUS_NAMES[name]) for name in LOTUS_NAMES]
    assert values == ["dagstore", 5, 0, 5, 100, 60]


def test_lotus_variables_are_heeded_unless_ours_are_there(tmp_path: Path) -> None:
    lotus = {"LOTUS_DAGSTORE_COPY_CONCURRENCY": "3", "LOTUS_DAGSTORE_MOUNT_CONCURRENCY": "4"}
    config = load(tmp_path / "none", required=False, environ=lotus)
    assert config.dagstore == DagstoreConfig(max_concurrent_ready_fetches=3, max_concurrency_storage_calls=4)
    both = lotus | {"CARFS_DAGSTORE_MAX_CONCURRENT_READY_FETCHES": "5"}
    config = load(tmp_path / "none", required=False, environ=both)
    assert config.dagstore.max_concurrent_ready_fetches == 5
    with pytest.raises(ConfigError, match="LOTUS_DAGSTORE_COPY_CONCURRENCY='many'"):
        load(tmp_path / "none", required=False, environ={"LOTUS_DAGSTORE_COPY_CONCURRENCY": "many"})


@pytest.mark.parametrize(
    ("text", "seconds"), [("1m", 60), ("1h2m3.5s", 3723.5), ("250ms", 0.25), ("0", 0), ("1m0s", 60)]
)
def test_go_durations_are_understood(text: str, seconds: float) -> None:
    assert duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "1", "m", "1 m", "1m x", "-1m"])
def test_other_durations_are_not(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        duration_s(text)


def test_variables_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    environ = {"CARFS_DAGSTORE_TRANSIENTS_LOW": "0.99"}
    with pytest.raises(ConfigError, match=r"CARFS_DAGSTORE_TRANSIENTS_LOW: .*must be below"):
        load(tmp_path / "none", required=False, environ=environ)


def test_w13_an_override_of_what_tasks_need_that_makes_no_sense_refuses_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="INDEX_MAX_MEMORY=lots: a size is a number of bytes"):
        load(tmp_path / "none", required=False, environ={"INDEX_MAX_MEMORY": "lots"})
    assert resource_overrides({"INDEX_MAX_MEMORY": "1GiB"}).values == {"INDEX_MAX_MEMORY": 1 << 30}


def test_all_that_is_said_of_resources_and_scheduling_reaches_the_scheduler(tmp_path: Path) -> None:
    text = "[workers]\ncount = 3\n[resources]\nreserve = 7\npressure = 5\ninterval_s = 2"
    text += "\n[scheduler]\nassigner = 'spread'\npatience_s = 4\nageing_s = 50"
    config = load(written(tmp_path / "c.toml", text), required=True, environ={})
    assert scheduler_settings(config, NONE) == Settings(
        policy=Policy(Assigner.SPREAD, ageing_s=50, patience_s=4),
        overrides=NONE,
        limit=3,
        reserve=7,
        pressure=5,
        interval_s=2,
    )


def test_the_admin_group_is_looked_up_by_name() -> None:
    group = grp.getgrall()[-1]
    assert Config(RpcConfig(admin_group=group.gr_name)).admin_gid() == group.gr_gid
    assert Config(RpcConfig(admin_group="no such group")).admin_gid() is None
    assert Config(RpcConfig(admin_group="")).admin_gid() is None
