"""Chunkers cut where Kubo cuts, compiled or not; their names are parsed as Kubo parses them, but for what cannot work.

Root CIDs were given by Kubo 0.43.0: `ipfs add --chunker=…` with and without `--trickle`.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carlib.unixfs import chunking, rolling, rolling_portable
from carlib.unixfs.chunking import MAX_CHUNK_BYTES, Buzhash, Chunker, Rabin
from carlib.unixfs.profile import CARFS, PROFILES, Layout
from tests.carlib.building import built_file
from tests.carlib.keystream import keystream

VARIANTS = [
    pytest.param(rolling, id="compiled" if rolling.IS_COMPILED else "as-installed"),
    pytest.param(rolling_portable, id="portable"),
]
RABIN = (rolling.RABIN_WINDOW, rolling.RABIN_TABLES)
BUZHASH = (rolling.BUZHASH_WINDOW, rolling.BUZHASH_TABLE)
DATA = keystream("chunker-seed", 3 << 20)


def reads(data: bytes, most: int) -> Callable[[int], bytes]:
    """A source that never gives more than `most` bytes."""
    position = 0

    def read(size: int) -> bytes:
        nonlocal position
        found = data[position : position + min(size, most)]
        position += len(found)
        return found

    return read


def rabin_hash(window: bytes) -> int:
    """By definition: the bytes as a polynomial, modulo the polynomial."""
    return rolling.residue(int.from_bytes(window, "big"))


def buzhash(window: bytes) -> int:
    """By definition: each byte's value, turned by how long it has been in the window."""
    state = 0
    for byte in window:
        state = (state << 1 | state >> 31) & 0xFFFFFFFF ^ rolling.BUZHASH_VALUES[byte]
    return state


def by_definition(data: bytes, start: int, mask: int, window: int, hashed: Callable[[bytes], int]) -> int:
    for position in range(start, len(data)):
        if not hashed(data[position - window : position]) & mask:
            return position
    return len(data)


@pytest.mark.parametrize(
    ("chunker", "balanced", "trickle"),
    [
        (
            "rabin",
            "QmQhG8zDeSQYirBSHebiAymPgdC1LPXNqN8ozZrkcbopY6",
            "QmNcDJQbiDNhg7sd5KYvNsA7dgcjXZ84d8sPZvBjjm7cYZ",
        ),
        (
            "rabin-65536",
            "QmSdoc34mZBUujzAoQmD7vYBVouLPTRE3Mkg5LGqtNJtzf",
            "QmNPCZxgFqH822gQy9AmjxEJThLBSztyrikDd1Fa3QYKdX",
        ),
        (
            "rabin-16-100-1000",
            "QmYiF58mRTa23rjRB4hmcst5UtAuqfj1eDQUduiSpwrA1V",
            "QmbRnUHK6D7w5gWgM1uJNbyqXF5wohqY711Qw8pCkExFRg",
        ),
        (
            "rabin-87-262144-2000000",
            "QmaDoLjUnzpz4Bf6p9cgxEU6roSgQqiKbKB7hBSC8YNd62",
            "QmeRC9spafRE8B3fzvLLxrYJZ8bhbwmDcLucH663Jpd3FL",
        ),
        (
            "buzhash",
            "QmeCDkNFEBXF1SNFqUbh6GgAyB8FD6PV41TeGepFdvKG9z",
            "QmQZz69eGGRMCo3AkQyR934Jc8qrV2EcYB7Z4EMwAG6PDh",
        ),
        (
            "size-1000",
            "QmYSB1cyRsaitV6R3ekbfT1A2r3aMdKjNVEroR4RZ5jftW",
            "QmSSvX4WkqHPVy5b7Jbep8b3VSPHZAz9o1KXk47TxY3uNo",
        ),
    ],
)
@pytest.mark.parametrize("variant", VARIANTS)
def test_roots_that_kubo_gives(
    chunker: str, balanced: str, trickle: str, variant: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rolling, "rabin", variant.rabin)  # type: ignore[attr-defined]  # a module of VARIANTS
    monkeypatch.setattr(rolling, "buzhash", variant.buzhash)  # type: ignore[attr-defined]
    profile = PROFILES["unixfs-v0-2015"].with_chunker(chunker)
    assert built_file(profile, [DATA]) == balanced
    assert built_file(dataclasses.replace(profile, layout=Layout.TRICKLE), [DATA]) == trickle


@pytest.mark.parametrize("variant", VARIANTS)
@given(data=st.binary(min_size=32, max_size=300), start=st.integers(32, 300), bits=st.integers(0, 20))
def test_both_hashes_are_what_their_definitions_say(
    variant: object, data: bytes, start: int, bits: int
) -> None:
    start, mask = min(start, len(data)), (1 << bits) - 1
    found = variant.rabin(data, start, mask, rolling.RABIN_TABLES)  # type: ignore[attr-defined]
    assert found == by_definition(data, start, mask, rolling.RABIN_WINDOW, rabin_hash)
    found = variant.buzhash(data, start, mask, rolling.BUZHASH_TABLE)  # type: ignore[attr-defined]
    assert found == by_definition(data, start, mask, rolling.BUZHASH_WINDOW, buzhash)


@given(start=st.integers(32, 70_000), length=st.integers(0, 70_000), bits=st.integers(6, 16))
def test_compiled_and_portable_find_the_same_wherever_their_stretches_end(
    start: int, length: int, bits: int
) -> None:
    data, mask = DATA[: start + length], (1 << bits) - 1
    for name, tables in (("rabin", rolling.RABIN_TABLES), ("buzhash", rolling.BUZHASH_TABLE)):
        found = {getattr(variant, name)(data, start, mask, tables) for variant in (rolling, rolling_portable)}
        assert len(found) == 1


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("name", "window", "tables"), [("rabin", *RABIN), ("buzhash", *BUZHASH)])
def test_a_search_without_a_window_before_it_or_past_the_end_is_refused(
    variant: object, name: str, window: int, tables: bytes
) -> None:
    find = getattr(variant, name)
    assert find(bytes(window), window, 0, tables) == window
    for start in (window - 1, 0, -1, 101):
        with pytest.raises(ValueError, match="start outside of the data"):
            find(bytes(100), start, 0, tables)


def test_the_compiled_search_refuses_tables_of_another_size() -> None:
    if not rolling.IS_COMPILED:
        pytest.skip("carlib.unixfs._rolling was not built")
    with pytest.raises(ValueError, match="tables of another size"):
        rolling.rabin(bytes(100), 16, 0, bytes(100))


CHUNKERS: list[Chunker] = [Rabin(16, 64, 300), Rabin.around(4096), Buzhash(), Buzhash(40, 3000)]


@given(
    chunker=st.sampled_from(CHUNKERS),
    start=st.integers(0, 9000),
    size=st.integers(0, 9000),
    most=st.integers(1, 9000),
)
def test_chunks_are_the_data_within_bounds_however_it_is_read(
    chunker: Chunker, start: int, size: int, most: int
) -> None:
    data = DATA[start : start + size]
    chunks = list(chunking.by_content(reads(data, most), chunker))
    assert b"".join(chunks) == data
    assert all(0 < len(chunk) <= chunker.maximum for chunk in chunks)
    assert chunks == list(chunking.by_content(reads(data, 1 << 30), chunker))


@given(size=st.integers(1, 50), length=st.integers(0, 200), most=st.integers(1, 60))
def test_fixed_chunks_likewise(size: int, length: int, most: int) -> None:
    data = DATA[:length]
    chunks = list(chunking.fixed(reads(data, most), size))
    assert chunks == [data[at : at + size] for at in range(0, length, size)]


def test_an_insertion_moves_the_cuts_and_leaves_most_chunks_alike() -> None:
    chunker = Rabin.around(65536)

    def cuts(data: bytes) -> Iterator[bytes]:
        return chunking.by_content(reads(data, 1 << 30), chunker)

    before, after = set(cuts(DATA)), set(cuts(b"inserted" + DATA))
    assert len(before - after) <= 2


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("default", 262144),
        ("size-1", 1),
        ("size-2096896", MAX_CHUNK_BYTES),
        ("rabin", Rabin(87381, 262144, 393216)),
        ("rabin-48", Rabin(16, 48, 72)),
        ("rabin-1000-2000-3000", Rabin(1000, 2000, 3000)),
        ("rabin-min:1000-avg:2000-max:3000", Rabin(1000, 2000, 3000)),
        ("buzhash", Buzhash(131072, 524288)),
    ],
)
def test_names_of_chunkers(text: str, parsed: int | Chunker) -> None:
    assert chunking.parse(text) == parsed


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "size-N, rabin, rabin-AVERAGE"),
        ("size", "are known"),
        ("size-", "'' is no number of bytes"),
        ("size-0", "chunks have 1 to 2096896 bytes, not 0"),
        ("size-2096897", "not 2096897"),
        ("size-1e6", "'1e6' is no number"),
        ("size-٣", "is no number"),
        ("rabin-47", "a minimum of 15 bytes; 16 is the least"),
        ("rabin-1500000", "not 2250000"),
        ("rabin-15-20-30", "a minimum of 15 bytes"),
        ("rabin-20-20-30", "each must be less than the next"),
        ("rabin-20-30-30", "each must be less than the next"),
        ("rabin-20-30-2096897", "not 2096897"),
        ("rabin-avg:20-30-40", "'avg:20' is no number"),
        ("rabin-20-30", "are known"),
        ("buzhash-1", "are known"),
        ("fastcdc", "are known"),
    ],
)
def test_what_is_no_chunker_is_refused_and_said(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        chunking.parse(text)


def test_a_profile_takes_a_chunker_by_name() -> None:
    assert CARFS.with_chunker("rabin") == dataclasses.replace(CARFS, chunker=Rabin.around(262144))
    assert CARFS.with_chunker("buzhash").with_chunker("size-7") == dataclasses.replace(CARFS, chunk_size=7)


@pytest.mark.parametrize("name", ["rabin", "buzhash"])
def test_a_long_search_of_random_bytes_is_never_past_the_end(name: str) -> None:
    data = os.urandom(10_000)
    tables = rolling.RABIN_TABLES if name == "rabin" else rolling.BUZHASH_TABLE
    for end in range(4090, 4200):
        assert getattr(rolling, name)(data[:end], 32, (1 << 32) - 1, tables) <= end
