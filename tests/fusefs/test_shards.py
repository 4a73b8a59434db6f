"""The table of a mount's shards: in the order of names, however they come and go."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from fusefs import import_records
from fusefs.catalogue import Change, ShardRecord
from fusefs.local_catalogue import LocalCatalogue
from fusefs.shards import Shards
from fusefs.stores import Stores
from fusefs.waits import Waits


def record(key: str) -> ShardRecord:
    return ShardRecord.parse({"Key": key, "State": "ShardStateNew"})


def table(records: Mapping[str, ShardRecord]) -> Shards:
    catalogue = LocalCatalogue(records)
    return Shards(catalogue, Stores(catalogue), Waits(deadline_s=1))


KEYS = st.text(min_size=1, max_size=3)


@given(st.lists(KEYS), st.lists(st.tuples(KEYS, st.booleans())))
def test_names_are_in_order_after_any_changes(first: list[str], changes: list[tuple[str, bool]]) -> None:
    known = {key: record(key) for key in first}
    shards = table(known)
    for key, is_there in changes:
        before, after = known.get(key), record(key) if is_there else None
        shards.apply(Change(key, before, after), now_ns=1)
        known.pop(key, None)
        if after is not None:
            known[key] = after
    listed = list(shards.folders())
    assert listed == sorted(set(listed))
    assert len(listed) == len(shards.folders()) == len(known)


def test_a_listing_that_is_under_way_goes_on_over_a_change() -> None:
    shards = table({key: record(key) for key in "abc"})
    entries = iter(shards.folders().items())
    assert next(entries)[0] == b"a"
    shards.apply(Change("b", record("b"), None), now_ns=1)
    shards.apply(Change("aa", None, record("aa")), now_ns=1)
    assert [name for name, _ in entries] == [b"c"]


def test_one_that_is_renamed_is_the_same_directory_and_a_name_may_change_hands() -> None:
    before = {number: import_record(number, name) for number, name in ((1, "a"), (2, "b"))}
    imports = table({record.key: record for record in before.values()})
    first = imports.folders()[b"a"]
    gone = imports.apply(Change("2", before[2], import_record(2, "a")), now_ns=1)  # heard of before 1 is gone
    assert gone is not None
    assert (gone.name, gone.is_deleted) == (b"b", False)
    assert imports.apply(Change("1", before[1], None), now_ns=1) == (b"a", b"1:0", True)
    assert list(imports.folders()) == [b"a"]
    assert imports.folders()[b"a"] is not first
    second = imports.folders()[b"a"]
    imports.apply(Change("2", import_record(2, "a"), import_record(2, "c")), now_ns=1)
    assert dict(imports.folders()) == {b"c": second}


def import_record(number: int, name: str) -> ShardRecord:
    return import_records.parse({"ID": number, "Name": name, "State": "ImportStateImporting"})
