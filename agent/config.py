"""The agent's configuration: `config.toml` in `$CARFS_PATH` (or `--config F`), then `CARFS_SECTION_KEY` variables.

One Struct a section; each key has a test that shows what it changes. Read once, at the start.
"""

from __future__ import annotations

import grp
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from agent.dagstore.mounts.config import MountsConfig
from agent.dagstore.scrub.schedule import ScrubConfig
from agent.dagstore.settings import LOTUS_SECTION, LOTUS_VARIABLES, DagstoreConfig, in_our_names
from agent.gateway.settings import GatewayConfig
from agent.imports.settings import ImportsConfig
from agent.ipfs.settings import IpfsConfig
from agent.market.settings import MarketConfig
from agent.resources.settings import ResourcesConfig
from agent.retrievals.settings import RetrievalConfig
from agent.scheduler import overrides
from agent.scheduler.overrides import OverrideError, Overrides

Count = Annotated[int, msgspec.Meta(ge=0, le=4096)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=86400)]


class ConfigError(Exception):
    """What is wrong in which file (or variable), under which key."""


class RpcConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[rpc]`: the socket and who may do what."""

    socket: str = (
        "agent.sock"  # path of the Unix socket, from $CARFS_PATH; clients find it through a link there
    )
    socket_mode: Annotated[str, msgspec.Meta(pattern="^0?[0-7]{3}$")] = (
        "0666"  # who can connect: read is for all
    )
    admin_group: str = (
        "carfs"  # its members may do all; so may root and the user of the agent; "": nobody else
    )
    event_buffer: Annotated[int, msgspec.Meta(ge=1, le=10_000_000)] = (
        16384  # changed shards that a slow reader of /events may lag behind
    )
    stop_grace_s: Seconds = 1.0  # seconds for requests under way when the agent stops
    listen: tuple[
        str, ...
    ] = ()  # TCP addresses such as 127.0.0.1:3453, for clients with a token; none: no TCP
    allowed_hosts: tuple[str, ...] = ()  # names by which clients over TCP may call this machine
    allowed_origins: tuple[str, ...] = ()  # web pages that may call over TCP, as https://example.org


class WorkersConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[workers]`: the processes that do what is heavy."""

    count: Count = 0  # processes that compute at once, at most; 0: as many as the limits allow
    idle_timeout_s: Seconds = 10.0  # seconds after which an idle one ends; it takes 40 MB, a new one 0.2 s
    heartbeat_s: Seconds = (
        5.0  # seconds between two reports of a worker elsewhere; after three it is given up
    )


class SchedulerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[scheduler]`: which task comes first, and where."""

    assigner: Literal["utilization", "spread"] = (
        "utilization"  # which worker that has room gets a task: the one used least, or with the fewest tasks
    )
    patience_s: Seconds = (
        30.0  # seconds after which a waiting task is overtaken no more where it will fit first
    )
    ageing_s: Seconds = (
        600.0  # seconds after which one in the background is as urgent as one that is waited for
    )


class LogConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[log]`."""

    level: Literal["debug", "info", "warning", "error"] = "info"  # what is told on stderr


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of it."""

    rpc: RpcConfig = RpcConfig()
    workers: WorkersConfig = WorkersConfig()
    log: LogConfig = LogConfig()
    dagstore: DagstoreConfig = DagstoreConfig()
    mounts: MountsConfig = MountsConfig()
    scrub: ScrubConfig = ScrubConfig()
    resources: ResourcesConfig = ResourcesConfig()
    scheduler: SchedulerConfig = SchedulerConfig()
    imports: ImportsConfig = ImportsConfig()
    gateway: GatewayConfig = GatewayConfig()
    retrieval: RetrievalConfig = RetrievalConfig()
    market: MarketConfig = MarketConfig()
    ipfs: IpfsConfig = IpfsConfig()

    def admin_gid(self) -> int | None:
        """The group whose members are admins; None if there is no such group on this machine."""
        try:
            return grp.getgrnam(self.rpc.admin_group).gr_gid if self.rpc.admin_group else None
        except KeyError:
            return None


def load(path: Path, *, required: bool, environ: Mapping[str, str]) -> Config:
    """The configuration from a file, which may be missing unless `required`, and the environment.

    Raises ConfigError.
    """
    resource_overrides(environ)
    return _with_environment(_from_file(path, required), environ)


def resource_overrides(environ: Mapping[str, str]) -> Overrides:
    """What variables such as INDEX_32G_MAX_MEMORY say of what tasks need (W-13); raises ConfigError."""
    try:
        return overrides.from_environment(environ)
    except OverrideError as error:
        raise ConfigError(f"the environment variable {error}") from error


def _from_file(path: Path, required: bool) -> Config:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if required:
            raise ConfigError(f"{path}: there is no such file") from None
        return Config()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error
    try:
        return msgspec.convert(_in_our_names(values), Config)
    except (msgspec.ValidationError, ValueError) as error:
        raise ConfigError(f"{path}: {_explained(str(error))}") from error


def _in_our_names(values: dict[str, Any]) -> dict[str, Any]:  # Any: as TOML has it
    """With Lotus' `[DAGStore]` as our `[dagstore]`; raises ValueError."""
    if LOTUS_SECTION in values:
        if "dagstore" in values:
            raise ValueError(f"{LOTUS_SECTION}: it is given as dagstore, too")
        values = {"dagstore" if name == LOTUS_SECTION else name: value for name, value in values.items()}
    section = values.get("dagstore")
    if isinstance(section, dict):
        try:
            values = values | {"dagstore": in_our_names(section)}
        except ValueError as error:
            raise ValueError(f"dagstore.{error}") from error
    return values


def _with_environment(config: Config, environ: Mapping[str, str]) -> Config:
    for section in config.__struct_fields__:
        prefix = f"CARFS_{section.upper()}_"
        variables = dict(LOTUS_VARIABLES) if section == "dagstore" else {}
        variables |= {
            name: name.removeprefix(prefix).lower() for name in sorted(environ) if name.startswith(prefix)
        }
        given = {name: key for name, key in variables.items() if name in environ}
        if given:
            values = _replaced(getattr(config, section), given, environ)
            config = msgspec.structs.replace(config, **{section: values})
    return config


def _replaced(
    section: Any, given: Mapping[str, str], environ: Mapping[str, str]
) -> Any:  # one of the Structs above
    """The section with what the variables say; `given` has the key of each, those that win last."""
    types = {field.name: field.type for field in msgspec.structs.fields(section)}
    values = msgspec.to_builtins(section)
    for variable, key in given.items():
        if key not in types:
            known = ", ".join(types)
            raise ConfigError(
                f"the environment variable {variable}: there is no key {key!r}; there is {known}"
            )
        text = environ[variable]
        value: Any = text  # what TOML would have given
        if types[key] == tuple[str, ...]:
            value = [part.strip() for part in text.split(",") if part.strip()]
        try:
            values[key] = msgspec.convert(value, types[key], strict=False)
        except msgspec.ValidationError as error:
            message = f"the environment variable {variable}={text!r}: {_explained(str(error))}"
            raise ConfigError(message) from error
    try:
        return msgspec.convert(values, type(section))
    except msgspec.ValidationError as error:  # they do not go together
        raise ConfigError(f"the environment variables {', '.join(given)}: {error}") from error


def _explained(message: str) -> str:
    """msgspec's message with the key first, as `section.key`."""
    what, _, where = message.partition(" - at `$")
    where = where.strip(".`")
    unknown = re.fullmatch(r"Object contains unknown field `(.*)`", what)
    if unknown is not None:
        key = f"{where}.{unknown[1]}".strip(".")
        return f"{key}: there is no such key"
    return f"{where}: {what}" if where else what
