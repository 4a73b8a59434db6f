"""Text forms of binary CIDs: base32 and base58btc here, all other bases through ``multiformats``.

The two bases that nearly every CID is written in are done on raw bytes, since ``multiformats`` takes 0.15 s to
import and 140 µs a CID (measured); it is imported when another prefix is met.  Source: multibase, RFC 4648.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

from carlib.errors import Malformed

BASE58_ALPHABET: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_BASE58_VALUE: Final = {letter: value for value, letter in enumerate(BASE58_ALPHABET)}
MAX_TEXT: Final = 8 * 1024
"""Characters of one CID in text; the longest legal binary CID needs fewer in any base but base2."""


def base32_encode(raw: bytes) -> str:
    """Lower case, unpadded, without the multibase prefix."""
    return base64.b32encode(raw).decode("ascii").rstrip("=").lower()


def base32_decode(text: str) -> bytes:
    """Bytes of lower- or upper-case unpadded base32; Malformed for anything else, stray bits included."""
    try:
        raw = base64.b32decode(text.upper() + "=" * (-len(text) % 8))
    except (binascii.Error, ValueError):
        raise Malformed(f"not base32: {text[:80]!r}") from None
    if text not in (base32_encode(raw), base32_encode(raw).upper()):
        raise Malformed(f"not canonical base32: {text[:80]!r}")
    return raw


def base58_encode(raw: bytes) -> str:
    """Bitcoin's alphabet, one "1" for each leading zero byte."""
    number = int.from_bytes(raw, "big")
    letters = []
    while number:
        number, rest = divmod(number, 58)
        letters.append(BASE58_ALPHABET[rest])
    zeros = len(raw) - len(raw.lstrip(b"\0"))
    return "1" * zeros + "".join(reversed(letters))


def base58_decode(text: str) -> bytes:
    """The inverse of :func:`base58_encode`; Malformed for letters outside of the alphabet."""
    number = 0
    for letter in text:
        value = _BASE58_VALUE.get(letter)
        if value is None:
            raise Malformed(f"not base58btc: {text[:80]!r}")
        number = number * 58 + value
    zeros = len(text) - len(text.lstrip("1"))
    return b"\0" * zeros + number.to_bytes((number.bit_length() + 7) // 8, "big")


def decode(text: str) -> bytes:
    """The bytes of a multibase string, its prefix letter first; Malformed where it is none."""
    if len(text) > MAX_TEXT:
        raise Malformed(f"multibase text of {len(text)} characters, more than {MAX_TEXT}")
    match text[:1]:
        case "b" | "B" as prefix:
            if text[1:] != (text[1:].lower() if prefix == "b" else text[1:].upper()):
                raise Malformed(f"base32 in mixed case: {text[:80]!r}")
            return base32_decode(text[1:])
        case "z":
            return base58_decode(text[1:])
    return _decode_any(text)


def encode(raw: bytes, base: str) -> str:
    """``raw`` in the multibase named ``base`` ("base32", "base58btc", "base36", "base64url", …), prefix first."""
    match base:
        case "base32":
            return "b" + base32_encode(raw)
        case "base58btc":
            return "z" + base58_encode(raw)
    from multiformats import multibase

    try:
        return str(multibase.get(base).encode(raw))
    except (KeyError, ValueError) as error:
        raise ValueError(f"unknown multibase {base!r}") from error


def _decode_any(text: str) -> bytes:
    from multiformats import multibase

    try:
        return bytes(multibase.decode(text))
    except Exception as error:  # the library has no error family: KeyError, ValueError, TypeError and its own
        raise Malformed(f"not a multibase string: {text[:80]!r} ({error})") from None
