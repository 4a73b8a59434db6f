"""Every parser on the sample files, on cut and flipped pieces of them, and on whatever bytes: CarError or a value."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carlib.errors import CarError
from tests.carlib.cars import BLOCKS, car_v1
from tests.fixtures import fixtures
from tests.fuzz.targets import TARGETS

SMALL = 4096
INTERESTING = (0, 1, 0x0A, 0x12, 0x55, 0x7F, 0x80, 0xD8, 0xFF)


def samples() -> list[bytes]:
    """Small sample files, and a CAR of our own where there are none."""
    found = [path.read_bytes() for path in fixtures("**/*.car", "**/*.carindex", "**/*.bin", "**/*.block")]
    return [car_v1(BLOCKS), *(data for data in found if len(data) <= SMALL)]


def attempt(name: str, data: bytes) -> None:
    try:
        TARGETS[name](data)
    except CarError:
        return


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_samples_give_a_value_or_our_error(name: str) -> None:
    chance = random.Random(name)
    for sample in samples():
        attempt(name, sample)
        for _ in range(6):
            damaged = bytearray(sample[chance.randrange(len(sample)) * (chance.random() < 0.3) :])
            for _ in range(chance.randrange(1, 4)):
                if damaged:
                    damaged[chance.randrange(len(damaged))] = chance.choice(
                        (0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256))
                    )
            attempt(name, bytes(damaged[: chance.randrange(len(damaged) + 1) or None]))


@pytest.mark.parametrize("name", TARGETS)
@given(data=st.binary(max_size=200))
def test_any_bytes_give_a_value_or_our_error(name: str, data: bytes) -> None:
    attempt(name, data)
