"""What `carlib.names` promises: valid file names, all different, and the usual ones unchanged."""

from __future__ import annotations

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carlib.names import shown, unshown

# Names made of the bytes and endings that the rules speak about meet the rules far more often than random bytes do.
PIECES = st.sampled_from(
    [
        b"/",
        b"\0",
        b".",
        b"%",
        b"~",
        b"2F",
        b"00",
        b"2E",
        b"25",
        b"7E",
        b"2",
        b"e",
        b"a" * 64,
        b"0" * 190,
        "é€𝄞".encode(),
    ]
)
NAMES = st.one_of(
    st.binary(max_size=300),
    st.lists(PIECES, max_size=8).map(b"".join),
    st.tuples(st.binary(max_size=260), st.just(b"~"), st.just(b"0f" * 32)).map(b"".join),
)

LOOKS_ESCAPED = re.compile(rb"%(?:00|25|2E|2F|7E)|\A%\Z|~[0-9a-f]{64}\Z", re.DOTALL)


@given(NAMES)
def test_a_shown_name_is_a_valid_file_name(name: bytes) -> None:
    result = shown(name)
    assert not {0x2F, 0} & set(result)
    assert result not in (b"", b".", b"..")
    assert len(result) <= 255


@given(NAMES)
def test_a_safe_name_is_shown_unchanged(name: bytes) -> None:
    valid = name not in (b"", b".", b"..") and not {0x2F, 0} & set(name) and len(name) <= 255
    assert (shown(name) == name) == (valid and not LOOKS_ESCAPED.search(name))


@given(NAMES, NAMES)
def test_different_names_are_shown_differently(one: bytes, other: bytes) -> None:
    assert (shown(one) == shown(other)) == (one == other)


@given(NAMES)
def test_the_shown_name_of_a_shown_name_differs_unless_it_was_safe(name: bytes) -> None:
    """The sharpest case of injectivity: an archive holds both a name and what that name is shown as."""
    assert shown(name) == name or shown(shown(name)) != shown(name)


@given(NAMES)
def test_unshown_turns_back_all_that_was_not_cut(name: bytes) -> None:
    back = unshown(shown(name))
    assert back == name or (back is None and re.search(rb"~[0-9a-f]{64}\Z", shown(name)))


@given(NAMES)
def test_unshown_answers_only_for_names_that_are_shown(file_name: bytes) -> None:
    name = unshown(file_name)
    assert name is None or shown(name) == file_name


@pytest.mark.parametrize(
    ("name", "result"),
    [
        (b"", b"%"),
        (b"%", b"%25"),
        (b".", b"%2E"),
        (b"..", b"%2E%2E"),
        (b"...", b"..."),
        (b"..a", b"..a"),
        (b".a", b".a"),
        (b".\n", b".\n"),
        (b"../foo", b"..%2Ffoo"),
        (b"/etc/passwd", b"%2Fetc%2Fpasswd"),
        (b"a\0b", b"a%00b"),
        (b"a%2Fb", b"a%252Fb"),
        (b"100%", b"100%"),
        (b"a%20b", b"a%20b"),
        (b"a%2fb", b"a%2fb"),
        (b"%25", b"%2525"),
        (b"\xff\xfe", b"\xff\xfe"),
        (b"x" * 255, b"x" * 255),
        (b"x~" + b"0" * 64, b"x%7E" + b"0" * 64),
    ],
)
def test_examples(name: bytes, result: bytes) -> None:
    assert shown(name) == result


def test_a_long_name_keeps_its_beginning_and_ends_with_the_hash_of_all_of_it() -> None:
    name = b"x" * 256
    assert shown(name) == b"x" * 190 + b"~" + hashlib.sha256(name).hexdigest().encode()


def test_a_long_name_is_cut_between_characters() -> None:
    name = b"a" + "é".encode() * 200
    assert shown(name)[:-65].decode() == "a" + "é" * 94


def test_a_long_name_is_not_cut_inside_of_an_escape() -> None:
    assert shown(b"x" * 189 + b"/" * 100)[:-65] == b"x" * 189
