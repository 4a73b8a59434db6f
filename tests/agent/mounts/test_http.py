"""The `http` and `https` mounts against a server process that does what its URL says."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import MockClock

from agent.dagstore import mounts
from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.mounts import DataChanged, HttpMount, TryLater, addresses
from agent.dagstore.mounts.config import MountsConfig
from agent.dagstore.mounts.environment import Environment, open_environment
from agent.dagstore.mounts.fetcher import PooledFetcher
from agent.dagstore.mounts.probing import read
from agent.dagstore.mounts.remote import Web as Remote
from agent.dagstore.origins import is_of_origin
from tests.agent.certificates import make_certificate
from tests.agent.mounts.conformance import DATA, MountConformance, Subject
from tests.agent.mounts.servers import Web, web_server
from tests.agent.waiting import until

NUMBERS = count()
LOCAL = MountsConfig(allow_private=True)
QUICK = MountsConfig(
    allow_private=True,
    connect_timeout_s=0.1,
    response_timeout_s=0.2,
    stall_timeout_s=0.2,
    queue_timeout_s=0.1,
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    with web_server(tmp_path_factory.mktemp("web")) as web:
        yield web


def local() -> AbstractAsyncContextManager[Environment]:
    return open_environment(LOCAL)


def subject_at(web: Web, name: str, faults: str = "") -> Subject:
    path = web.folder / name
    path.write_bytes(DATA)
    os.utime(path, (1e9, 1e9))

    def change() -> None:
        path.write_bytes(DATA[::-1])
        os.utime(path, (1e9 + 1, 1e9 + 1))

    return Subject(HttpMount.parse(web.url(name, faults)), DATA, local, change=change, remove=path.unlink)


class TestHttp(MountConformance):
    @pytest.fixture
    def subject(self, server: Web) -> Subject:
        return subject_at(server, f"{next(NUMBERS)}.car")


class TestHttpWithDatesOnly(MountConformance):
    @pytest.fixture
    def subject(self, server: Web) -> Subject:
        return subject_at(server, f"{next(NUMBERS)}.car", "dates")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("tls"), "IP:127.0.0.1")


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory, certificate: Path) -> Iterator[Web]:
    with web_server(tmp_path_factory.mktemp("web"), certificate=certificate) as web:
        yield web


class TestHttps(MountConformance):
    @pytest.fixture
    def subject(self, secure: Web, certificate: Path) -> Subject:
        config = msgspec.structs.replace(LOCAL, ca_file=str(certificate))
        subject = subject_at(secure, f"{next(NUMBERS)}.car")
        return Subject(subject.mount, DATA, lambda: open_environment(config), subject.change, subject.remove)


async def at(web: Web, faults: str, *, name: str = "x.car", config: MountsConfig = LOCAL) -> bytes:
    """What a look and a read of the middle give."""
    async with open_environment(config) as environment:
        mount = HttpMount.parse(web.url(name, faults))
        return await read(mount, environment, 1000, 5000, await mount.look(environment))


@pytest.fixture(autouse=True)
def _file(server: Web) -> None:
    (server.folder / "x.car").write_bytes(DATA)


@pytest.mark.parametrize(
    ("faults", "kind", "error_class", "message"),
    [
        ("cut=3000", TryLater, ErrorClass.BUSY, "broke off, or does not speak HTTP"),
        ("lie", ShardError, ErrorClass.CORRUPT, r"bytes 0-0 were asked for, its server gave bytes 1-1/"),
        ("gzip", ShardError, ErrorClass.INVALID, "encoded as 'gzip'"),
        ("etag=flip", DataChanged, ErrorClass.CORRUPT, "changed since it was looked at: etag"),
        ("length=10", ShardError, ErrorClass.CORRUPT, "announces 5010 bytes for bytes 1000-5999"),
        ("loop", ShardError, ErrorClass.INVALID, r"redirected more than 5 times"),
        ("status=503&retry=7", TryLater, ErrorClass.BUSY, "HTTP 503"),
        ("status=429", TryLater, ErrorClass.BUSY, "HTTP 429"),
        ("status=500", ShardError, ErrorClass.BUSY, "HTTP 500"),
        ("status=500&retry=1", TryLater, ErrorClass.BUSY, "HTTP 500"),
        ("status=502", TryLater, ErrorClass.BUSY, "HTTP 502"),
        ("status=403", ShardError, ErrorClass.DENIED, "HTTP 403"),
        ("status=401", ShardError, ErrorClass.DENIED, "HTTP 401"),
        ("status=404", ShardError, ErrorClass.GONE, "HTTP 404"),
        ("status=410", ShardError, ErrorClass.GONE, "HTTP 410"),
        ("status=418", ShardError, ErrorClass.INVALID, "HTTP 418"),
        ("norange&chunked", ShardError, ErrorClass.INVALID, "does not say how many bytes"),
        ("garbage", TryLater, ErrorClass.BUSY, "does not speak HTTP"),
        ("to=gopher://x/", ShardError, ErrorClass.INVALID, "neither http: nor https:"),
        ("to=https://127.0.0.1:1/", TryLater, ErrorClass.BUSY, "cannot be reached"),
    ],
)
async def test_a_fault_of_the_server_is_an_error_of_the_right_class(
    server: Web, faults: str, kind: type[ShardError], error_class: ErrorClass, message: str
) -> None:
    with pytest.raises(kind, match=message) as raised:
        await at(server, faults)
    assert (type(raised.value), raised.value.error_class) == (kind, error_class)


@pytest.mark.parametrize("faults", ["", "etag=weak", "etag=none", "chunked", "norange", "hops=5", "dates"])
async def test_what_is_no_fault_gives_the_bytes(server: Web, faults: str) -> None:
    assert await at(server, faults) == DATA[1000:6000]


@pytest.mark.parametrize("faults", ["hang", "slowheaders", "trickle", "pause=3000"])
async def test_a_server_that_takes_for_ever_is_given_up(server: Web, faults: str) -> None:
    with pytest.raises(TryLater, match=r"did not answer in|stalled: ") as raised:
        await at(server, faults, config=QUICK)
    assert raised.value.error_class is ErrorClass.BUSY


async def test_the_least_rate_is_a_matter_of_configuration(server: Web) -> None:
    (server.folder / "slow").write_bytes(b"thirty bytes, one every 20 ms.")
    mount = HttpMount.parse(server.url("slow", "trickle"))
    async with open_environment(msgspec.structs.replace(QUICK, min_rate_bytes=0)) as environment:
        expected = await mount.look(environment)
        assert await read(mount, environment, 0, 30, expected) == b"thirty bytes, one every 20 ms."
    async with open_environment(QUICK) as environment:
        with pytest.raises(TryLater, match="stalled: "):
            await read(mount, environment, 0, 30, expected)


async def test_a_name_that_nobody_resolves_is_given_up(autojump_clock: MockClock) -> None:
    async def resolve(host: str, port: int) -> list[str]:
        await trio.sleep_forever()
        raise AssertionError

    async with web_of(resolve, msgspec.structs.replace(LOCAL, connect_timeout_s=600)) as environment:
        with pytest.raises(TryLater, match=r"'silent\.test' could not be resolved in time"):
            await HttpMount.parse("http://silent.test/").look(environment)
    assert trio.current_time() >= 600


async def test_x3_a_zero_is_no_limit_and_never_no_token(server: Web) -> None:
    config = msgspec.structs.replace(LOCAL, connections=0, min_rate_bytes=0, max_redirects=0)
    assert await at(server, "", config=config) == DATA[1000:6000]
    with pytest.raises(ShardError, match="redirected more than 0 times"):
        await at(server, "hops=1", config=config)


async def test_x2_connections_are_bounded_and_who_waits_too_long_is_told(server: Web) -> None:
    config = msgspec.structs.replace(QUICK, connections=1)
    mount = HttpMount.parse(server.url("x.car"))
    async with open_environment(config) as environment:
        expected = await mount.look(environment)
        async with mount.stream(environment, 0, len(DATA), expected) as pieces:
            await anext(pieces)
            with pytest.raises(
                ShardError, match=r"became free in 0.1 s \(mounts.connections is 1\)"
            ) as raised:
                await mount.look(environment)
        assert (type(raised.value), raised.value.error_class) == (
            ShardError,
            ErrorClass.BUSY,
        )  # no server's fault
        assert await mount.look(environment) == expected


class CancelAt(trio.abc.Instrument):
    """Cancels a task when it has taken so many steps: at another of its awaits each time."""

    def __init__(self, task: trio.lowlevel.Task, scope: trio.CancelScope, step: int) -> None:
        self.task, self.scope, self.left = task, scope, step

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self.left -= task is self.task
        if not self.left:
            self.scope.cancel()


async def test_d5_a_cancel_at_any_await_gives_back_what_it_took(server: Web) -> None:
    mount = HttpMount.parse(server.url("x.car", "hops=1"))
    async with open_environment(msgspec.structs.replace(LOCAL, connections=1)) as environment:
        assert environment.remote is not None
        fetcher = environment.remote.fetcher
        assert isinstance(fetcher, PooledFetcher)
        for step in range(1, 200):
            instrument = CancelAt(trio.lowlevel.current_task(), scope := trio.CancelScope(), step)
            trio.lowlevel.add_instrument(instrument)
            with scope:
                await read(mount, environment, 5, 200_000, await mount.look(environment))
            trio.lowlevel.remove_instrument(instrument)
            assert fetcher.in_use == 0
            assert (await mount.look(environment)).size == len(DATA)  # the one connection is free
            if not scope.cancelled_caught:
                break
        assert 10 < step < 199


async def test_m1_a_failure_is_not_remembered(server: Web) -> None:
    mount = HttpMount.parse(server.url("x.car", "first=503&retry=3"))
    async with open_environment(LOCAL) as environment:
        with pytest.raises(TryLater) as raised:
            await mount.look(environment)
        assert raised.value.after_s == 3
        assert (await mount.look(environment)).size == len(DATA)


async def test_a_small_range_of_a_server_without_ranges_does_not_cost_all(server: Web) -> None:
    path = server.folder / "big.car"
    with path.open("wb") as file:
        file.truncate(256 << 20)
    mount = HttpMount.parse(server.url("big.car", "norange"))
    async with open_environment(LOCAL) as environment:
        expected = await mount.look(environment)
        assert await read(mount, environment, 500_000, 4096, expected) == bytes(4096)
        with pytest.raises(ShardError, match="gives no ranges") as raised:
            await read(mount, environment, 128 << 20, 4096, expected)
        assert raised.value.error_class is ErrorClass.INVALID
        assert not (await mount.probe(environment)).ranges

    def sent() -> list[int]:
        return [line["sent"] for line in server.requests() if line["path"] == "/big.car"]

    await until(lambda: len(sent()) >= 5)
    assert max(sent()) < 64 << 20


async def test_a_server_that_gives_the_first_bytes_for_every_range_is_found_out(server: Web) -> None:
    async with open_environment(LOCAL) as environment:
        probe = await HttpMount.parse(server.url("x.car", "start")).probe(environment)
    assert (probe.ranges, probe.fingerprint.size) == (False, len(DATA))


async def test_an_empty_file_is_seen_and_read(server: Web) -> None:
    (server.folder / "empty").touch()
    mount = HttpMount.parse(server.url("empty"))
    async with open_environment(LOCAL) as environment:
        probe = await mount.probe(environment)
        assert (probe.fingerprint.size, probe.ranges) == (0, True)
        assert await read(mount, environment, 0, 0, probe.fingerprint) == b""


async def test_each_request_says_which_version_it_wants_and_no_encoding(server: Web) -> None:
    (server.folder / "asked").write_bytes(DATA)
    mount = HttpMount.parse(server.url("asked"))
    async with open_environment(LOCAL) as environment:
        expected = await mount.look(environment)
        await read(mount, environment, 7, 3, expected)
    await until(lambda: sum(line["path"] == "/asked" for line in server.requests()) == 2)
    fields = [line["fields"] for line in server.requests() if line["path"] == "/asked"]
    assert [one["range"] for one in fields] == ["bytes=0-0", "bytes=7-9"]
    assert [one.get("if-range") for one in fields] == [None, expected.etag]
    assert {one["accept-encoding"] for one in fields} == {"identity"}
    assert fields[0]["user-agent"].startswith("carfs/")


async def test_a_connection_that_was_closed_while_it_was_idle_is_no_fault(server: Web) -> None:
    mount = HttpMount.parse(server.url("x.car", "tired"))
    async with open_environment(LOCAL) as environment:
        expected = await mount.look(environment)
        for _ in range(3):
            assert await read(mount, environment, 10, 10, expected) == DATA[10:20]


async def test_connections_are_used_again(server: Web) -> None:
    mount = HttpMount.parse(server.url("x.car"))
    opened: list[str] = []

    async def resolve(host: str, port: int) -> list[str]:
        opened.append(host)
        return [host]

    async with web_of(resolve) as environment:
        expected = await mount.look(environment)
        for _ in range(5):
            await read(mount, environment, 10, 100_000, expected)
    assert opened == ["127.0.0.1"]


@asynccontextmanager
async def web_of(
    resolve: Any, config: MountsConfig = LOCAL
) -> Any:  # Any: a Resolve; an iterator of one Environment
    fetcher = PooledFetcher(config, resolve=resolve)
    try:
        yield Environment(remote=Remote(fetcher, config.max_redirects))
    finally:
        await fetcher.aclose()


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "169.254.169.254", "2130706433"]
)
async def test_private_addresses_are_refused_unless_allowed(host: str) -> None:
    async with open_environment(MountsConfig()) as environment:
        with pytest.raises(ShardError, match=r"private address .* set mounts.allow_private") as raised:
            await HttpMount.parse(f"http://{host}:1/x").look(environment)
    assert raised.value.error_class is ErrorClass.DENIED


async def test_a_redirect_to_a_private_address_is_refused_too(
    server: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        addresses, "is_public", lambda address: address == "127.0.0.1"
    )  # the test's own server
    mount = HttpMount.parse(server.url("x.car", "to=http://169.254.169.254/latest/meta-data/"))
    async with open_environment(MountsConfig()) as environment:
        with pytest.raises(
            ShardError, match=r"/latest/meta-data/: '169.254.169.254' is a private address"
        ) as raised:
            await mount.look(environment)
    assert raised.value.error_class is ErrorClass.DENIED


async def test_the_address_that_was_checked_is_the_one_that_is_used(server: Web) -> None:
    """A name that is public when it is checked and private when it is used (DNS rebinding) is resolved once."""
    answers = iter([["127.0.0.1"], ["93.184.215.14"]])

    async def resolve(host: str, port: int) -> list[str]:
        return next(answers)

    mount = HttpMount.parse(f"http://rebinding.test:{server.port}/x.car")
    async with web_of(resolve, MountsConfig()) as environment:
        with pytest.raises(ShardError, match=r"'rebinding.test' is a private address \(127.0.0.1\)"):
            await mount.look(environment)
    async with web_of(lambda *_: _addresses(["127.0.0.1"])) as environment:
        assert (await mount.look(environment)).size == len(DATA)


async def _addresses(found: list[str]) -> list[str]:
    return found


async def test_a_name_that_is_not_there_is_gone_and_one_that_cannot_be_asked_for_is_busy() -> None:
    for number, error_class in ((socket.EAI_NONAME, ErrorClass.GONE), (socket.EAI_AGAIN, ErrorClass.BUSY)):

        async def resolve(host: str, port: int, number: int = number) -> list[str]:
            raise socket.gaierror(number, "as told")

        async with web_of(resolve) as environment:
            with pytest.raises(ShardError, match=r"nowhere\.test") as raised:
                await HttpMount.parse("http://nowhere.test/").look(environment)
        assert raised.value.error_class is error_class
        assert is_of_origin(raised.value)


async def test_an_address_that_does_not_answer_does_not_keep_the_next_from_being_tried(server: Web) -> None:
    mount = HttpMount.parse(f"http://two.test:{server.port}/x.car")
    async with web_of(lambda *_: _addresses(["127.0.0.2", "::1", "127.0.0.1"])) as environment:
        assert (await mount.look(environment)).size == len(DATA)


async def test_a_certificate_of_another_host_is_refused(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path, "DNS:other.test")
    with web_server(tmp_path, certificate=certificate) as web:
        config = msgspec.structs.replace(LOCAL, ca_file=str(certificate))
        async with open_environment(config) as environment:
            with pytest.raises(ShardError, match="certificate cannot be verified") as raised:
                await HttpMount.parse(web.url("x")).look(environment)
    assert raised.value.error_class is ErrorClass.DENIED


async def test_a_file_of_certificates_that_is_not_there_is_said() -> None:
    with pytest.raises(ShardError, match=r"mounts.ca_file: /none: No such file"):
        async with open_environment(MountsConfig(ca_file="/none")):
            pass


async def test_secrets_are_sent_to_their_server_and_appear_nowhere_else(
    server: Web, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    said = []
    (server.folder / "secret").write_bytes(DATA)
    for faults in ("token=hunter2", "token=hunter2&status=503", "token=hunter2&cut=1", "token=hunter2&hang",
                   "token=hunter2&to=/gone%3Ftoken=hunter2"):  # fmt: skip
        url = server.url("secret", faults).replace("://", "://someone:hunter%202@")
        mount = mounts.parse(url)
        assert mount.url == url
        said += [str(mount), mount.origin]
        async with open_environment(QUICK) as environment:
            try:
                await read(mount, environment, 0, len(DATA), await mount.look(environment))
            except ShardError as error:
                said.append(str(error))
    assert not [line for line in [*said, caplog.text] if "hunter" in line or "someone" in line]
    assert len(said) == 5 * 2 + 4
    sent = {line["fields"].get("authorization") for line in server.requests() if line["path"] == "/secret"}
    assert sent == {"Basic c29tZW9uZTpodW50ZXIgMg=="}


async def test_passwords_are_not_sent_where_a_redirect_leads(server: Web, tmp_path: Path) -> None:
    with web_server(tmp_path) as other:
        (other.folder / "moved").write_bytes(DATA)
        url = server.url("x.car", f"to={other.url('moved')}").replace("://", "://a:b@")
        async with open_environment(LOCAL) as environment:
            assert (await HttpMount.parse(url).look(environment)).size == len(DATA)
            await trio.sleep(0)
        await until(lambda: len(other.requests()) == 1)
        assert "authorization" not in other.requests()[0]["fields"]
