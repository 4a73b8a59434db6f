"""Every way to hash and pad, C for each CPU or Python, gives what the specification says."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carlib.piece import kernel, portable
from carlib.piece.kernel import Subtree
from tests.carlib.piece import reference

Convert = tuple[Subtree, Subtree]


def test_the_kernel_was_built() -> None:
    if not kernel.VARIANTS:
        pytest.skip("carlib.piece._kernel was not built: only the portable functions are tested")
    assert kernel.VARIANTS[-1] == "baseline"


@pytest.mark.parametrize("subtree", reference.SUBTREES)
@pytest.mark.parametrize("level", range(11))
def test_subtrees_of_every_height_around_the_lanes(subtree: Subtree, level: int) -> None:
    data = reference.pattern(127 << level)
    assert subtree(data) == reference.root(data)


@pytest.mark.parametrize("subtree", reference.SUBTREES)
def test_known_answers(subtree: Subtree) -> None:
    two_kib_of_zeros = "fc7e928296e516faade986b28f92d44a4f24b935485223376a799027bc18f833"
    assert subtree(bytes(127 << 4)).hex() == two_kib_of_zeros
    numbers = b"".join(bytes((n,)) * 127 for n in range(4))
    assert subtree(numbers).hex() == "496dae0cc9e265efe5a006e80626a5dc5c409e5d3155c13984caf6c8d5cfd605"


@pytest.mark.parametrize("subtree", reference.SUBTREES)
@given(st.integers(0, 7).flatmap(lambda level: st.binary(min_size=127 << level, max_size=127 << level)))
def test_any_bytes(subtree: Subtree, data: bytes) -> None:
    assert subtree(data) == reference.root(data)


@pytest.mark.parametrize("subtree", reference.SUBTREES)
@pytest.mark.parametrize("size", [0, 1, 126, 128, 254 + 127, 127 * 5, 127 * 64 - 1, 127 * 64 + 1])
def test_other_lengths_are_refused(subtree: Subtree, size: int) -> None:
    with pytest.raises(ValueError, match="127 << n"):
        subtree(bytes(size))


@pytest.mark.parametrize("number", [-1, len(kernel.VARIANTS), 1 << 30])
def test_a_variant_that_is_not_there_is_refused(number: int) -> None:
    kernel_module = pytest.importorskip("carlib.piece._kernel", reason="not built")
    with pytest.raises(ValueError, match="variant"):
        kernel_module.subtree(bytes(127), number)


@pytest.mark.parametrize("subtree", reference.SUBTREES)
@pytest.mark.parametrize("shift", range(1, 9))
def test_data_may_begin_at_any_address(subtree: Subtree, shift: int) -> None:
    data = reference.pattern((127 << 6) + shift)
    assert subtree(memoryview(data)[shift:]) == reference.root(data[shift:])


@pytest.mark.parametrize("convert", reference.PADS)
@pytest.mark.parametrize("groups", [*range(20), 63, 64, 65])
def test_padding_is_what_the_specification_says_and_comes_off(convert: Convert, groups: int) -> None:
    pad, unpad = convert
    data = reference.pattern(127 * groups)
    assert pad(data) == reference.padded(data)
    assert unpad(pad(data)) == data


@pytest.mark.parametrize("convert", reference.PADS)
@given(st.binary(max_size=127 * 9))
def test_any_groups_pad_and_unpad(convert: Convert, data: bytes) -> None:
    pad, unpad = convert
    data = data[: len(data) // 127 * 127]
    assert pad(bytearray(data)) == reference.padded(data)
    assert unpad(memoryview(reference.padded(data))) == data


@pytest.mark.parametrize("convert", reference.PADS)
@given(st.binary(max_size=128 * 5))
def test_unpadding_ignores_the_top_bits(convert: Convert, data: bytes) -> None:
    pad, unpad = convert
    data = data[: len(data) // 128 * 128]
    cleared = bytes(byte & 0x3F if at % 32 == 31 else byte for at, byte in enumerate(data))
    assert unpad(data) == unpad(cleared)
    assert pad(unpad(data)) == cleared


@pytest.mark.parametrize("convert", reference.PADS)
@pytest.mark.parametrize("size", [1, 126, 128 + 127, 300])
def test_parts_of_groups_are_refused(convert: Convert, size: int) -> None:
    for function in convert:
        with pytest.raises(ValueError, match="multiple of 12"):
            function(bytes(size))


def test_the_functions_travel_to_worker_processes() -> None:
    for function in (kernel.subtree, portable.subtree):
        assert pickle.loads(pickle.dumps(function))(bytes(127)) == function(bytes(127))
