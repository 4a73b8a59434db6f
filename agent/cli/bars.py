"""Bars of text: how much of something is used, by whom, and how much is free. Pure.

They take any numbers (S-3: Lotus' panicked where more was used than there was): what is negative or no number counts as
0, and what is over the whole is cut off.
"""

from __future__ import annotations

import math
import sys
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from agent.cli.output import Styled

Line = tuple[Styled, ...]
"""Words of one line, one after the other."""


class Part(NamedTuple):
    """What takes a part of the whole."""

    amount: float
    color: str = "green"
    solid: str = "█"
    ascii: str = "#"


FREE = Part(0, "", "·", ".")


def bar(whole: float | None, parts: Sequence[Part], width: int, *, plain: bool = False) -> Line:
    """A bar in brackets, `width` columns altogether; `plain`: of ASCII. Of a whole that is 0 everything is used."""
    inside = max(0, width - 2)
    ends = [round(share * inside) for share in _cumulated(whole, parts)]
    begins = [0, *ends]
    words = [
        Styled((part.ascii if plain else part.solid) * (end - begin), part.color)
        for part, begin, end in zip(parts, begins, ends, strict=False)
        if end > begin
    ]
    free = (FREE.ascii if plain else FREE.solid) * (inside - begins[-1])
    return (Styled("["), *words, Styled(f"{free}]"))


def percent(whole: float | None, used: float) -> str:
    """ "62 %"; never below 0 nor above 100."""
    (share,) = _cumulated(whole, [Part(used)])
    return f"{math.floor(100 * share)} %"


def takes_blocks() -> bool:
    """Whether standard output can show a bar's blocks."""
    try:
        f"{Part(0).solid}{FREE.solid}".encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def cells(text: str) -> int:
    """The columns that a text takes on a terminal."""
    return sum(
        2 if unicodedata.east_asian_width(char) in "WF" else 0 if unicodedata.combining(char) else 1
        for char in text
    )


def cut(text: str, width: int, *, keep_end: bool = False) -> str:
    """The text in at most so many columns; where it is longer, its beginning (or its end) and `…`."""
    if cells(text) <= width:
        return text
    if width < 1:
        return ""
    kept = ""
    for char in reversed(text) if keep_end else text:
        if cells(kept) + cells(char) > width - 1:
            break
        kept = char + kept if keep_end else kept + char
    return f"…{kept}" if keep_end else f"{kept}…"


def fitted(text: str, width: int) -> str:
    """The text in exactly so many columns."""
    short = cut(text, width)
    return short + " " * (width - cells(short))


def _cumulated(whole: float | None, parts: Sequence[Part]) -> list[float]:
    """Where each part ends, from 0 to 1."""
    amounts = [max(0.0, one.amount) if math.isfinite(one.amount) else 0.0 for one in parts]
    total = whole if whole is not None and math.isfinite(whole) and whole > 0 else 0.0
    found, sum_so_far = [], 0.0
    for amount in amounts:
        sum_so_far += amount
        found.append(min(1.0, sum_so_far / total) if total else float(sum_so_far > 0))
    return found
