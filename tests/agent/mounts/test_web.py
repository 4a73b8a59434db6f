"""The parts of remote mounts that need no network: URLs, addresses, what answers mean, and where redirects lead."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.dagstore import mounts
from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.mounts import DataChanged, Fingerprint, HttpMount, TryLater, answers
from agent.dagstore.mounts.addresses import is_public
from agent.dagstore.mounts.environment import Environment
from agent.dagstore.mounts.fetcher import Answer
from agent.dagstore.mounts.probing import read
from agent.dagstore.mounts.remote import Web
from agent.dagstore.mounts.urls import HttpUrl, shown

NOW = 1_000_000_000.0  # Sun, 09 Sep 2001 01:46:40 GMT
DATE = "Sun, 09 Sep 2001 01:46:40 GMT"
STRONG = {"etag": '"a"'}


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("http://Host.Example/a", "http://host.example/a"),
        ("HTTPS://h:443", "https://h/"),
        ("http://h:80/a#part", "http://h/a"),
        ("http://h:8080/a?b=c%2Fd&e", "http://h:8080/a?b=c%2Fd&e"),
        ("http://h/a b", "http://h/a%20b"),
        ("http://h/100%", "http://h/100%25"),
        ("http://h/%zz%41", "http://h/%25zz%41"),
        ("http://h/é", "http://h/%C3%A9"),
        ("http://bücher.example/", "http://xn--bcher-kva.example/"),
        ("http://[::1]:81/x", "http://[::1]:81/x"),
        ("http://[0:0::1]/x", "http://[::1]/x"),
        ("http://u:p%40@h/x", "http://u:p%40@h/x"),
        ("http://u@h", "http://u@h/"),
        ("http://h/a?x[]=1", "http://h/a?x[]=1"),
        ("http://h/..//a", "http://h/..//a"),
    ],
)
def test_a_url_has_one_spelling(text: str, canonical: str) -> None:
    assert HttpUrl.parse(text).text == canonical
    assert HttpUrl.parse(canonical).text == canonical
    assert mounts.resolve(text).url == canonical


@pytest.mark.parametrize(
    "text",
    ["http:x", "http:/x", "http://", "http:///x", "http://h:0/", "http://h:99999/", "http://h:x/", "http://[::1",
     "http://[zz]/", "http://h\n/", "http://h/\x00", "http://a..b/", "http://-/", "https://a b/", "http://é\ud800/",
     "http://" + "x" * 70 + "/"],
)  # fmt: skip
def test_what_is_no_url_of_the_web_is_refused(text: str) -> None:
    with pytest.raises(ShardError) as raised:
        mounts.parse(text)
    assert raised.value.error_class is ErrorClass.INVALID


@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=20), st.text(max_size=10))
def test_m5_any_url_that_is_taken_is_read_back_the_same(path: str, query: str, host: str, user: str) -> None:
    try:
        mount = mounts.parse(f"https://{user}@{host}.test/{path}?{query}")
    except ShardError as error:
        assert error.error_class is ErrorClass.INVALID
        return
    assert mounts.parse(mount.url) == mount
    assert mounts.parse(mount.url).url == mount.url
    assert mount.url.isascii()
    assert mount.url.isprintable()


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("https://u:p@h/a?token=x", "https://…@h/a?…"),
        ("https://h/a#x", "https://h/a#…"),
        ("https://h/a", "https://h/a"),
        ("s3://k:s@bucket/key?x", "s3://…@bucket/key?…"),
        ("file:///a?b", "file:///a?…"),
        ("no url", "no url"),
    ],
)
def test_secrets_in_a_url_are_not_shown(url: str, text: str) -> None:
    assert shown(url) == text


def test_a_url_that_is_refused_is_not_shown_with_its_secrets() -> None:
    for url in ("https://u:hunter2@h:0/?hunter2", "gopher://u:hunter2@h/", "https://u:hunter2@/"):
        with pytest.raises(ShardError) as raised:
            mounts.resolve(url)
        assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
     "255.255.255.255", "192.0.2.1", "198.18.0.1", "240.0.0.1", "::1", "::", "fe80::1", "fe80::1%lo", "fc00::1",
     "fd00:ec2::254", "ff02::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "2002:7f00:1::",
     "2001:db8::1",
     "fec0::1", "::127.0.0.1", "64:ff9b:1::7f00:1", "192.0.0.192", "168.63.129.16", "192.88.99.1", "0.1.2.3"],
)  # fmt: skip
def test_what_is_not_on_the_public_internet(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["93.184.215.14", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_what_is(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"etag": '"a"'}, Fingerprint(9, etag='"a"')),
        ({"etag": 'W/"a"'}, Fingerprint(9)),
        ({"etag": "a"}, Fingerprint(9)),
        ({"etag": '"a", "b"'}, Fingerprint(9)),
        ({"last-modified": "Sun, 09 Sep 2001 01:45:40 GMT", "date": DATE},
         Fingerprint(9, modified="Sun, 09 Sep 2001 01:45:40 GMT")),
        ({"last-modified": "Sun, 09 Sep 2001 01:45:41 GMT", "date": DATE}, Fingerprint(9)),  # 59 s: may be weak
        ({"last-modified": "Sun, 09 Sep 2001 01:45:40 GMT"}, Fingerprint(9)),  # without Date nobody knows
        ({"last-modified": "yesterday", "date": DATE}, Fingerprint(9)),
        ({"etag": 'W/"a"', "last-modified": "Sat, 08 Sep 2001 01:45:40 GMT", "date": DATE},
         Fingerprint(9, modified="Sat, 08 Sep 2001 01:45:40 GMT")),
    ],
)  # fmt: skip
def test_only_strong_validators_count(headers: dict[str, str], expected: Fingerprint) -> None:
    assert answers.fingerprint(headers, 9) == expected


@pytest.mark.parametrize(
    ("text", "after_s"),
    [("0", 0), ("7", 7), ("999999999", 86400), ("-1", None), ("soon", None), ("", None), ("1.5", None),
     ("Sun, 09 Sep 2001 01:46:50 GMT", 10), ("Sun, 09 Sep 2001 01:46:30 GMT", 0), ("１", None)],
)  # fmt: skip
def test_retry_after_is_seconds_from_now(text: str, after_s: float | None) -> None:
    assert answers.retry_after_s({"retry-after": text}, NOW) == after_s


@pytest.mark.parametrize(
    ("text", "range_"),
    [
        ("bytes 0-0/5", answers.ContentRange(0, 0, 5)),
        ("Bytes 1-4/*", answers.ContentRange(1, 4, -1)),
        ("bytes */5", answers.ContentRange(-1, -1, 5)),
        ("bytes 4-1/5", None),
        ("bytes 0-5/5", None),
        ("items 0-1/5", None),
        ("bytes 0-1", None),
        ("bytes 0-" + "9" * 30 + "/*", None),
    ],
)
def test_content_range_is_read_strictly(text: str, range_: answers.ContentRange | None) -> None:
    assert answers.ContentRange.parse(text) == range_


def body_of(status: int, headers: dict[str, str], expected: Fingerprint) -> answers.Body:
    """Of the answer to bytes 3 to 6."""
    return answers.body_of(status, headers, "it", NOW, 3, 4, expected)


KNOWN = Fingerprint(9, etag='"a"')


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (
            206,
            STRONG | {"content-range": "bytes 3-6/9", "content-length": "4"},
            answers.Body(0, 4, whole=True),
        ),
        (206, {"content-range": "bytes 3-6/*"}, answers.Body(0, 4, whole=True)),
        (200, STRONG | {"content-length": "9"}, answers.Body(3, 4, whole=False)),
        (200, STRONG, answers.Body(3, 4, whole=False)),
    ],
)
def test_where_the_bytes_are_in_an_answer(status: int, headers: dict[str, str], body: answers.Body) -> None:
    assert body_of(status, headers, KNOWN) == body


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (206, {"etag": '"b"', "content-range": "bytes 3-6/9"}),
        (206, STRONG | {"content-range": "bytes 3-6/10"}),
        (200, {"etag": '"b"', "content-length": "9"}),  # If-Range says so by giving all of the new one
        (200, STRONG | {"content-length": "10"}),
        (412, {}),
        (416, {"content-range": "bytes */2"}),
    ],
)
def test_an_answer_from_other_data_is_never_used(status: int, headers: dict[str, str]) -> None:
    with pytest.raises(DataChanged, match="it changed since it was looked at"):
        body_of(status, headers, KNOWN)


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (206, STRONG),
        (206, STRONG | {"content-range": "bytes 0-6/9"}),
        (206, STRONG | {"content-range": "bytes 3-5/9"}),
        (206, STRONG | {"content-range": "bytes 3-6/9", "content-length": "9"}),
    ],
)
def test_an_answer_that_is_not_what_was_asked_for_is_a_lie(status: int, headers: dict[str, str]) -> None:
    with pytest.raises(ShardError, match=r"bytes 3-6|announces") as raised:
        body_of(status, headers, KNOWN)
    assert (type(raised.value), raised.value.error_class) == (ShardError, ErrorClass.CORRUPT)


FIELDS = [
    "etag",
    "content-range",
    "content-length",
    "content-encoding",
    "last-modified",
    "date",
    "retry-after",
]
VALUES = st.one_of(st.text(max_size=20), st.from_regex(r"bytes \d*-\d*/\d*", fullmatch=True), st.just(DATE))


@given(st.integers(100, 599), st.dictionaries(st.sampled_from(FIELDS), VALUES))
def test_any_answer_is_bytes_or_a_shard_error(status: int, headers: dict[str, str]) -> None:
    for judge in (
        lambda: answers.look_result(status, headers, "it", NOW),
        lambda: body_of(status, headers, KNOWN),
    ):
        try:
            judge()
        except ShardError:
            pass


@dataclass
class FakeFetcher:
    """Answers from memory; keeps what was asked."""

    answers: dict[str, tuple[int, dict[str, str], list[bytes]]]
    asked: list[tuple[str, Mapping[str, str]]] = field(default_factory=list)
    open: int = 0

    @asynccontextmanager
    async def get(self, url: HttpUrl, headers: Mapping[str, str]) -> AsyncIterator[Answer]:
        self.asked.append((url.text, headers))
        status, fields, pieces = self.answers[url.text]

        async def body() -> AsyncGenerator[bytes, None]:
            for piece in pieces:
                yield piece

        self.open += 1
        try:
            async with aclosing(body()) as given_body:
                yield Answer(status, fields, given_body)
        finally:
            self.open -= 1


def environment_of(fetcher: FakeFetcher) -> Environment:
    return Environment(remote=Web(fetcher, max_redirects=2, wall_clock=lambda: NOW))


def to(location: str) -> tuple[int, dict[str, str], list[bytes]]:
    return 302, {"location": location, "content-length": "0"}, []


FOUND = (206, STRONG | {"content-range": "bytes 0-0/9"}, [b"x"])


async def test_redirects_are_followed_to_where_they_lead_and_passwords_stay_behind() -> None:
    fetcher = FakeFetcher(
        {"http://u:p@a/": to("/b?c"), "http://a/b?c": to("https://d/"), "https://d/": FOUND}
    )
    fetcher.answers["http://u:p@a/b?c"] = fetcher.answers["http://a/b?c"]
    assert await HttpMount.parse("http://u:p@a/").look(environment_of(fetcher)) == KNOWN
    assert [url.rpartition("@")[2] for url, _ in fetcher.asked] == ["a/", "a/b?c", "https://d/"]
    assert ["authorization" in headers for _, headers in fetcher.asked] == [True, True, False]
    assert fetcher.open == 0


@pytest.mark.parametrize(
    ("start", "hops", "error_class", "message"),
    [
        ("https://a/", ["http://b/"], ErrorClass.DENIED, "redirected from https to http://b/, where anybody"),
        ("http://a/", ["/1", "/2", "/3"], ErrorClass.INVALID, "redirected more than 2 times"),
        ("http://a/", ["file:///etc/passwd"], ErrorClass.INVALID, "neither http: nor https:"),
        ("http://a/", ["http://[/"], ErrorClass.INVALID, "is not a URL"),
        ("http://a/", ["//u:hunter2@b:0/?hunter2"], ErrorClass.INVALID, "names no port"),
    ],
)
async def test_redirects_that_are_not_followed(
    start: str, hops: list[str], error_class: ErrorClass, message: str
) -> None:
    urls = [start, *(HttpUrl.parse(start).join(hop).text for hop in hops[:-1])]  # where each is asked for
    fetcher = FakeFetcher({url: to(hop) for url, hop in zip(urls, hops, strict=True)})
    with pytest.raises(ShardError, match=message) as raised:
        await HttpMount.parse(start).look(environment_of(fetcher))
    assert raised.value.error_class is error_class
    assert "hunter2" not in str(raised.value)
    assert fetcher.open == 0


@given(st.binary(min_size=9, max_size=9), st.sets(st.integers(1, 8)), st.integers(0, 8), st.integers(1, 9))
async def test_the_bytes_are_the_same_however_they_are_cut(
    data: bytes, cuts: set[int], offset: int, length: int
) -> None:
    length = min(length, 9 - offset)
    pieces = [data[start:end] for start, end in pairwise([0, *sorted(cuts), 9])]
    fetcher = FakeFetcher({"http://a/": (200, {}, pieces)})
    assert (
        await read(HttpMount.parse("http://a/"), environment_of(fetcher), offset, length, Fingerprint(9))
        == data[offset : offset + length]
    )


@pytest.mark.parametrize(
    ("pieces", "kind", "message"),
    [
        ([b"123"], TryLater, "ended 1 bytes before its end"),
        ([b"12", b"345"], ShardError, "sent more than was asked for"),
        ([b"1234", b"5"], ShardError, "sent more than was asked for"),
    ],
)
async def test_a_body_of_another_length_is_an_error(
    pieces: list[bytes], kind: type[ShardError], message: str
) -> None:
    fetcher = FakeFetcher({"http://a/": (206, {"content-range": "bytes 3-6/9"}, pieces)})
    with pytest.raises(kind, match=message):
        await read(HttpMount.parse("http://a/"), environment_of(fetcher), 3, 4, Fingerprint(9))
    assert fetcher.open == 0


async def test_without_a_network_a_remote_mount_says_so() -> None:
    with pytest.raises(ShardError, match="reads local files only"):
        await HttpMount.parse("http://a/").look(Environment())
