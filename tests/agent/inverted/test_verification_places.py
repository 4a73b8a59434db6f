"""Where keys would stand in a segment, found without looking all over it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.dagstore.inverted import verification

DIGESTS = st.lists(st.binary(min_size=3, max_size=3).filter(lambda raw: raw[-1:] != b"\0"), max_size=200).map(
    sorted
)


@given(DIGESTS, DIGESTS.filter(len), st.integers(1, 50))
def test_places_are_those_of_a_search_over_all_however_near_it_looks(
    whole: list[bytes], keys: list[bytes], near: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verification, "_NEAR", near)
        rows, some = np.array(whole, "S3"), np.array(keys, "S3")
        assert verification._places(rows, some).tolist() == np.searchsorted(rows, some).tolist()
