"""The `s3` mount against moto's server, and what needs none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from itertools import count

import msgspec
import obstore
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.dagstore import mounts
from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.mounts import S3Mount
from agent.dagstore.mounts.config import MountsConfig
from agent.dagstore.mounts.environment import Environment, open_environment
from agent.dagstore.mounts.probing import read
from agent.dagstore.mounts.signer import Signer
from tests.agent.mounts.conformance import DATA, MountConformance, Subject
from tests.agent.mounts.servers import S3, s3_server

NUMBERS = count()
NO_AWS = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_SESSION_TOKEN")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with s3_server(tmp_path_factory.mktemp("s3")) as s3:
        yield s3


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NO_AWS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDTEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")


def at(server: S3, **settings: object) -> AbstractAsyncContextManager[Environment]:
    """What the operator configures; the store is on a private address, and may be since the operator names it."""
    return open_environment(msgspec.structs.replace(MountsConfig(s3_endpoint=server.endpoint), **settings))


class TestS3(MountConformance):
    @pytest.fixture
    def subject(self, server: S3) -> Subject:
        mount = S3Mount(server.bucket, f"folder/ä {next(NUMBERS)} +%41?#.car")
        store = server.store()
        obstore.put(store, mount.key, DATA)
        return Subject(
            mount,
            DATA,
            lambda: at(server),
            change=lambda: obstore.put(store, mount.key, DATA[::-1]),
            remove=lambda: obstore.delete(store, mount.key),
        )


async def test_the_endpoint_may_be_in_the_url_and_is_somebody_else_then(server: S3) -> None:
    obstore.put(server.store(), "x", DATA)
    mount = mounts.parse(f"{server.url('x')}?region=eu-west-3&endpoint={server.endpoint}")
    assert mount.url == f"s3://test-bucket/x?endpoint={server.endpoint}&region=eu-west-3"
    async with open_environment(MountsConfig(allow_private=True)) as environment:
        expected = await mount.look(environment)
        assert await read(mount, environment, 5, 6, expected) == DATA[5:11]
    async with open_environment(MountsConfig()) as environment:
        with pytest.raises(ShardError, match="private address") as raised:
            await mount.look(environment)
    assert raised.value.error_class is ErrorClass.DENIED


async def test_the_environment_of_the_process_names_the_endpoint_too(
    server: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    obstore.put(server.store(), "x", DATA)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
    async with open_environment(MountsConfig()) as environment:
        assert (await mounts.parse(server.url("x")).look(environment)).size == len(DATA)


async def test_an_empty_object_is_seen(server: S3) -> None:
    obstore.put(server.store(), "empty", b"")
    async with at(server) as environment:
        assert (await mounts.parse(server.url("empty")).look(environment)).size == 0


@pytest.mark.parametrize("url", ["s3://test-bucket/none", "s3://no-such-bucket/none"])
async def test_what_is_not_there_is_gone_in_the_words_of_s3(server: S3, url: str) -> None:
    async with at(server) as environment:
        with pytest.raises(ShardError, match=r"HTTP 404 \(NoSuch(Key|Bucket)\)") as raised:
            await mounts.parse(url).look(environment)
    assert raised.value.error_class is ErrorClass.GONE


async def test_requests_are_signed_with_the_operators_key_unless_told_not_to() -> None:
    mount = S3Mount("bucket", "a/b", region="eu-west-3")
    signed = await Signer().signed(mount)
    assert signed.text.startswith(
        "https://bucket.s3.eu-west-3.amazonaws.com/a/b?X-Amz-Algorithm=AWS4-HMAC-SHA256&"
    )
    assert "Credential=AKIDTEST%2F" in signed.text
    anonymous = await Signer(endpoint="http://h:9000/", anonymous=True).signed(mount)
    assert anonymous.text == "http://h:9000/bucket/a/b"


async def test_region_and_anonymity_are_configured() -> None:
    config = MountsConfig(s3_endpoint="http://h", s3_region="moon-1")
    async with open_environment(config) as environment:
        assert "%2Fmoon-1%2Fs3%2F" in (await environment.signer().signed(S3Mount("bucket", "a"))).text
    async with open_environment(msgspec.structs.replace(config, s3_anonymous=True)) as environment:
        assert (await environment.signer().signed(S3Mount("bucket", "a"))).text == "http://h/bucket/a"


async def test_secrets_are_in_no_url_and_no_message(server: S3) -> None:
    mount = S3Mount("test-bucket", "none")
    async with at(server) as environment:
        with pytest.raises(ShardError) as raised:
            await mount.look(environment)
    assert str(raised.value).startswith("s3://test-bucket/none: the server answered")
    for said in (str(raised.value), mount.url, str(mount)):
        assert "AKIDTEST" not in said
        assert "Signature" not in said
    with pytest.raises(ShardError, match="credentials come from the environment") as refused:
        mounts.parse("s3://AKIDTEST:hunter2@bucket/key")
    assert "hunter2" not in str(refused.value)


async def test_without_credentials_it_is_said_how_to_give_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1")  # nobody is there
    with pytest.raises(ShardError, match="no credentials for S3; set AWS_ACCESS_KEY_ID and") as raised:
        await Signer().signed(S3Mount("bucket", "key"))
    assert raised.value.error_class is ErrorClass.DENIED


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("S3://Bucket.a/k", "s3://Bucket.a/k"),
        ("s3://bucket/a b", "s3://bucket/a%20b"),
        ("s3://bucket/100%", "s3://bucket/100%25"),
        ("s3://bucket/%C3%A9", "s3://bucket/%C3%A9"),
        ("s3://bucket/k?endpoint=HTTP://Host:80/", "s3://bucket/k?endpoint=http://host"),
        ("s3://bucket/k?endpoint=&region=", "s3://bucket/k"),
    ],
)
def test_a_url_has_one_spelling(text: str, url: str) -> None:
    assert mounts.resolve(text).url == url
    assert mounts.parse(url) == mounts.resolve(text)


@given(st.text(min_size=1, max_size=60))
def test_m6_any_key_that_is_taken_is_read_back_the_same(key: str) -> None:
    mount = S3Mount("bucket", key)
    try:
        url = mount.url
        again = mounts.parse(url)
    except (ShardError, UnicodeError):
        return
    assert (again, again.url) == (mount, url)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("s3:///key", "names no bucket"),
        ("s3://b/key", "names no bucket"),
        ("s3://bucket", "a key of 0 bytes"),
        ("s3://bucket/" + "x" * 1025, "a key of 1025 bytes, not 1 to 1024"),
        ("s3://bucket/a//b", "which HTTP does not carry"),
        ("s3://bucket/a/../b", "which HTTP does not carry"),
        ("s3://bucket/a%0Ab", "which HTTP does not carry"),
        ("s3://bucket/%FF", "not UTF-8"),
        ("s3://bucket/a?versionId=1", "more than endpoint= and region="),
        ("s3://bucket/a?x", "a query that is not"),
        ("s3://bucket/a#b", "a . or # in a key is %3F or %23"),
        ("s3://bucket/a?endpoint=ftp://x", "neither http: nor https:"),
        ("s3://bucket/a?endpoint=http://u:p@x", "an endpoint with more than"),
        ("s3://bucket/a?region=a/b", "which is none"),
        ("s3://[/a", "is not a URL"),
    ],
)
def test_what_is_no_object_is_refused(text: str, message: str) -> None:
    with pytest.raises(ShardError, match=message) as raised:
        mounts.parse(text)
    assert raised.value.error_class is ErrorClass.INVALID


async def test_an_endpoint_that_is_none_is_a_mistake_in_the_configuration() -> None:
    with pytest.raises(ShardError, match=r"mounts.s3_endpoint: 'minio:9000' is neither http: nor https:"):
        async with open_environment(MountsConfig(s3_endpoint="minio:9000")):
            pass
