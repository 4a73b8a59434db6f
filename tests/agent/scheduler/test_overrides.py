"""Environment variables in place of the table: which win, and that what is malformed is refused."""

from __future__ import annotations

import pytest

from agent.scheduler import table
from agent.scheduler.overrides import FIELDS, OverrideError, from_environment, parse_size
from tests.agent.scheduler.machines import GIB, MIB


def applied(environment: dict[str, str], kind: str = "index", size_bytes: int = 2048) -> tuple[int, int]:
    """Least and most memory in MiB."""
    requirement = table.requirement(kind, size_bytes)
    changed = from_environment(environment).apply(kind, size_bytes, requirement)
    return changed.min_memory // MIB, changed.max_memory // MIB


def test_without_variables_nothing_is_set_and_the_table_holds() -> None:
    overrides = from_environment({"PATH": "/bin", "INDEXED": "1"})
    assert (overrides.lines(), overrides.warnings) == ([], ())
    requirement = table.requirement("index", GIB)
    assert overrides.apply("index", GIB, requirement) == requirement


def test_a_variable_with_a_size_holds_for_that_size_alone() -> None:
    overrides = from_environment({"INDEX_2K_MAX_MEMORY": "2199023255552"})
    assert overrides.lines() == ["INDEX_2K_MAX_MEMORY=2199023255552"]
    assert overrides.apply("index", 2048, table.requirement("index", 2048)).max_memory == 1 << 41
    assert overrides.apply("index", 2049, table.requirement("index", 2049)) == table.requirement(
        "index", 2049
    )


@pytest.mark.parametrize("size_bytes", table.SIZE_CLASSES.values())
def test_a_variable_without_a_size_holds_for_all_sizes(size_bytes: int) -> None:
    assert applied({"INDEX_MAX_MEMORY": "512MiB"}, size_bytes=size_bytes)[1] == 512


def test_a_variable_with_a_size_wins_over_one_without() -> None:
    environment = {"INDEX_MAX_MEMORY": "512MiB", "INDEX_2K_MAX_MEMORY": "768MiB"}
    assert applied(environment)[1] == 768
    assert applied(environment, size_bytes=GIB)[1] == 512


@pytest.mark.parametrize("kind", table.KINDS.values(), ids=lambda kind: kind.name)
def test_every_field_of_every_kind_can_be_set(kind: table.Kind) -> None:
    environment = {f"{kind.short}_{field}": "7" for field in FIELDS}
    changed = from_environment(environment).apply(kind.name, GIB, kind.requirement(GIB))
    assert [getattr(changed, field.lower()) for field in FIELDS] == [7] * len(FIELDS)


def test_92_percent_of_the_cpus_can_be_asked_for() -> None:
    changed = from_environment({"COMMP_MAX_PARALLELISM": "-1"}).apply(
        "commp", 1, table.requirement("commp", 1)
    )
    assert changed.threads(100) == 92


def test_of_least_and_most_the_one_that_is_not_said_gives_way() -> None:
    assert applied({"INDEX_MAX_MEMORY": "8MiB"}) == (8, 8)
    assert applied({"INDEX_MIN_MEMORY": "8GiB"}) == (8192, 8192)


@pytest.mark.parametrize(
    ("variable", "value", "right"),
    [
        (
            "INDEX_MIN_MEMORY",
            "lots",
            "a size is a number of bytes, or a number and one of KiB, MiB, GiB, TiB",
        ),
        ("INDEX_MIN_MEMORY", "", "a size is a number of bytes, or a number and one of KiB, MiB, GiB, TiB"),
        ("INDEX_MIN_MEMORY", "-1", "a size is a number of bytes, or a number and one of KiB, MiB, GiB, TiB"),
        (
            "INDEX_2K_MAX_MEMORY",
            "512 MB",
            "a size is a number of bytes, or a number and one of KiB, MiB, GiB, TiB",
        ),
        ("INDEX_DISK", "1.5", "a size is a number of bytes, or a number and one of KiB, MiB, GiB, TiB"),
        ("INDEX_MAX_MEMORY", "9" * 19, f"a size is at most {1 << 62} bytes"),
        (
            "INDEX_MAX_MEMORY",
            "9" * 5000,
            "a size is a number of bytes, or a number and one of KiB, MiB, GiB, TiB",
        ),
        ("FETCH_MAX_CONCURRENT", "4.5", "a whole number from 0 on is needed, 0 for any number"),
        ("FETCH_MAX_CONCURRENT", "-1", "a whole number from 0 on is needed, 0 for any number"),
        ("COMMP_32G_MAX_PARALLELISM", "-2", "a whole number from 0 on is needed, or -1 for 92 % of the CPUs"),
        (
            "COMMP_MAX_PARALLELISM",
            "9" * 5000,
            "a whole number from 0 on is needed, or -1 for 92 % of the CPUs",
        ),
    ],
)
def test_w13_a_malformed_override_is_refused(variable: str, value: str, right: str) -> None:
    with pytest.raises(OverrideError) as refused:
        from_environment({variable: value})
    assert str(refused.value) == f"{variable}={value}: {right}"


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (
            {"INDEX_MIN_MEMORY": "2GiB", "INDEX_MAX_MEMORY": "1GiB"},
            "INDEX_MIN_MEMORY=2GiB: it must not be more than INDEX_MAX_MEMORY=1GiB",
        ),
        (
            {"INDEX_MIN_MEMORY": "2GiB", "INDEX_512M_MAX_MEMORY": "1GiB"},
            "INDEX_MIN_MEMORY=2GiB: it must not be more than INDEX_512M_MAX_MEMORY=1GiB",
        ),
    ],
)
def test_w13_more_at_least_than_at_most_is_refused(environment: dict[str, str], message: str) -> None:
    with pytest.raises(OverrideError) as refused:
        from_environment(environment)
    assert str(refused.value) == message


def test_a_variable_of_a_kind_with_an_unknown_field_is_a_warning() -> None:
    overrides = from_environment({"COMMP_32G_GPU_UTILIZATION": "1"})
    assert overrides.warnings == (
        "COMMP_32G_GPU_UTILIZATION means nothing here; the fields are MIN_MEMORY, MAX_MEMORY, BASE_MIN_MEMORY, DISK, "
        "MAX_PARALLELISM, MAX_CONCURRENT",
    )


def test_lines_are_sorted_and_show_what_is_set_what_holds_and_what_would_hold() -> None:
    overrides = from_environment({"INVERT_MAX_CONCURRENT": "2", "FETCH_2K_MAX_MEMORY": "16MiB"})
    assert overrides.lines() == ["FETCH_2K_MAX_MEMORY=16MiB", "INVERT_MAX_CONCURRENT=2"]
    default, everything = overrides.lines(default=True), overrides.lines(all=True)
    assert default == sorted(default)
    assert len(default) == len(table.KINDS) * len(table.SIZE_CLASSES) * len(FIELDS)
    assert set(everything) - set(default) == {
        "FETCH_2K_MAX_MEMORY=16777216",
        *(f"INVERT_{size_class}_MAX_CONCURRENT=2" for size_class in table.SIZE_CLASSES),
    }


def test_what_is_printed_can_be_read_back() -> None:
    lines = from_environment({}).lines(default=True)
    again = from_environment(dict(line.split("=") for line in lines))
    for kind in table.KINDS.values():
        for size_bytes in table.SIZE_CLASSES.values():
            assert again.apply(kind.name, size_bytes, kind.requirement(size_bytes)) == kind.requirement(
                size_bytes
            )


def test_s5_every_kind_can_be_capped() -> None:
    for kind in table.KINDS.values():
        overrides = from_environment({f"{kind.short}_32G_MAX_CONCURRENT": "3"})
        assert overrides.apply(kind.name, 32 * GIB, kind.requirement(32 * GIB)).max_concurrent == 3


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [("0", 0), ("17", 17), ("17B", 17), ("4 KiB", 4096), ("512MiB", 512 * MIB), ("1.5gib", 3 * GIB // 2)],
)
def test_sizes_are_bytes_or_have_a_unit(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes
