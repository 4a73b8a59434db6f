"""The page on scheduling says what the code says."""

from __future__ import annotations

import pytest

from agent.scheduler import estimating, order, overrides, table
from agent.scheduler.admission import Rule, size
from agent.scheduler.requirement import IoClass
from tests.agent.scheduler.machines import GIB, MIB
from tests.fixtures import REPOSITORY

PAGE = (REPOSITORY / "docs" / "scheduler.md").read_text()
SIZES = (MIB, 64 * MIB, GIB, 32 * GIB)


def rows(title: str) -> list[list[str]]:
    """The cells of the first table under a heading."""
    lines = PAGE.partition(f"# {title}\n")[2].splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("|---"))
    found = []
    for line in lines[first + 1 :]:
        if not line.startswith("|"):
            break
        found.append([cell.strip() for cell in line.strip("|").split("|")])
    return found


def shown(kind: table.Kind) -> list[str]:
    needs = kind.requirement(GIB)
    idle = "when idle" if needs.io_class is IoClass.IDLE else "usual"
    return [
        f"`{kind.name}`", f"`{kind.short}`", str(kind.order), str(needs.max_parallelism),
        str(needs.max_concurrent or "any"), idle, *(size(kind.requirement(one).max_memory) for one in SIZES),
    ]  # fmt: skip


def test_the_table_of_kinds_is_that_of_the_code() -> None:
    assert rows("Kinds of task") == [shown(kind) for kind in table.KINDS.values()]


def test_what_was_measured_is_less_than_what_is_reserved_and_not_far_less() -> None:
    measured = {row[0].strip("`"): row[1:4] for row in rows("Measured")}
    assert set(measured) | {"fetch"} == set(table.KINDS)
    for name, peaks in measured.items():
        for size_bytes, peak in zip(SIZES, peaks, strict=False):
            reserved = table.requirement(name, size_bytes).max_memory
            assert 1.05 <= reserved / (int(peak) * MIB) <= 2.2, (name, size_bytes)


def test_the_fields_are_those_of_the_code() -> None:
    assert [row[0].strip("`") for row in rows("Environment variables")] == list(overrides.FIELDS)


def test_the_rules_are_those_of_the_code_in_order() -> None:
    listed = [line[2:] for line in PAGE.splitlines() if line.startswith("- ")]
    assert listed == [rule.value for rule in Rule]


@pytest.mark.parametrize("value", [table.KINDS["index"].requirement(1).base_min_memory])
def test_shared_memory_is_the_same_for_all_but_what_runs_in_the_agent(value: int) -> None:
    assert f"holds {size(value)} for libraries" in PAGE
    assert {kind.requirement(GIB).base_min_memory for kind in table.KINDS.values() if kind.function} == {
        value
    }


def test_numbers_in_the_text_are_those_of_the_code() -> None:
    policy = order.DEFAULT_POLICY
    assert f"rises, by 2048 in {policy.ageing_s / 60:.0f} minutes" in PAGE
    assert f"overtake it, for {policy.patience_s:.0f} seconds" in PAGE
    assert (estimating.MARGIN, estimating.KILLED, estimating.DECAY, estimating.ENOUGH) == (1.25, 1.5, 16, 4)


@pytest.mark.parametrize("kind", table.KINDS.values(), ids=lambda kind: kind.name)
@pytest.mark.parametrize("size_bytes", [0, 1, 2048, MIB, GIB, 32 * GIB, 1 << 50])
def test_every_formula_makes_sense_for_every_size(kind: table.Kind, size_bytes: int) -> None:
    needs = kind.requirement(size_bytes)
    assert 0 < needs.min_memory <= needs.max_memory
    assert needs.disk >= 0 and kind.requirement(-1) == kind.requirement(0)


def test_size_classes_are_lotus_and_what_is_not_known_counts_as_a_usual_piece() -> None:
    sizes = (0, 1, 2048, 2049, 512 * MIB, 32 * GIB, 32 * GIB + 1, 1 << 50)
    assert [table.size_class(one) for one in sizes] == ["32G", "2K", "2K", "8M", "512M", "32G", "64G", "64G"]
