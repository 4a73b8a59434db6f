"""IPLD selectors: what they reach, in which order, and which of it they match."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carlib import dagjson
from carlib.blockstore import MemoryBlocks, ReadOnlyBlockstore
from carlib.cid import DAG_CBOR, DAG_JSON, DAG_PB, RAW, Cid
from carlib.dagpb import PBLink
from carlib.errors import BlockNotFound, CarError, LimitExceeded, Malformed
from carlib.selectors import EXPLORE_ALL, MATCH_ALL, Selection, compile_selector, from_path, parse, select
from carlib.traversal import Limits, Rules, Traversal
from carlib.unixfs import Directory
from carlib.unixfs.builder import Builder
from carlib.unixfs.profile import CARFS
from tests.carlib.dags import Dag, dags
from tests.carlib.nodes import CountingBlocks, put, put_directory, put_file, put_node, put_raw
from tests.fixtures import fixture

MATCH: dict[str, Any] = {".": {}}
ALL_MATCHED = {"R": {"l": {"none": {}}, ":>": {"|": [MATCH, {"a": {">": {"@": {}}}}]}}}


def reached(value: Any, selector: Any) -> list[tuple[str, Any, bool]]:
    """Path, node (containers by their type) and whether it matched, for every visit to the one block of ``value``."""
    blocks = MemoryBlocks()
    root = put(blocks, dagjson.render(value).encode(), DAG_JSON)
    steps = select(blocks, root, compile_selector(selector))
    return [(step.path, _plain(step.node), step.matched) for step in steps]


def _plain(node: Any) -> Any:
    return type(node) if isinstance(node, dict | list) else node


def fields(**inner: Any) -> dict[str, Any]:
    return {"f": {"f>": inner}}


@pytest.mark.parametrize(
    ("value", "selector", "expected"),
    [
        ("one", MATCH, [("", "one", True)]),
        (
            {"bar": False, "foo": True, "other": {}},
            fields(foo=MATCH, bar=MATCH, absent=MATCH),
            [("", dict, False), ("foo", True, True), ("bar", False, True)],
        ),
        (["0", "1"], {"i": {"i": 1, ">": MATCH}}, [("", list, False), ("1", "1", True)]),
        (["0"], {"i": {"i": 7, ">": MATCH}}, [("", list, False)]),
        ({"1": "map"}, {"i": {"i": 1, ">": MATCH}}, [("", dict, False)]),
        (
            [0, None, "s", {}],
            {"r": {"^": 1, "$": 3, ">": MATCH}},
            [("", list, False), ("1", None, True), ("2", "s", True)],
        ),
        (["0"], {"r": {"^": 0, "$": 1 << 62, ">": MATCH}}, [("", list, False), ("0", "0", True)]),
        (["a", "b"], fields(**{"1": MATCH, "x": MATCH, "-1": MATCH}), [("", list, False), ("1", "b", True)]),
        ({"a": 1, "b": 2}, {"a": {">": MATCH}}, [("", dict, False), ("a", 1, True), ("b", 2, True)]),
        (
            {"a": 1},
            {"|": [fields(a=MATCH), fields(a=MATCH), MATCH]},
            [("", dict, True), ("a", 1, True)],
        ),
        ({"a": 1}, {"|": []}, [("", dict, False)]),
        ([0], {"R": {"l": {"none": {}}, ":>": {"@": {}}}}, [("", list, False)]),
        (
            [[["deep"]]],
            {"R": {"l": {"depth": 2}, ":>": {"|": [MATCH, {"a": {">": {"@": {}}}}]}}},
            [("", list, True), ("0", list, True)],
        ),
        (
            [[["deep"]]],
            ALL_MATCHED,
            [("", list, True), ("0", list, True), ("0/0", list, True), ("0/0/0", "deep", True)],
        ),
    ],
)
def test_clauses(value: Any, selector: Any, expected: list[tuple[str, Any, bool]]) -> None:
    assert reached(value, selector) == expected


@pytest.mark.parametrize(
    ("subset", "expected"),
    [
        ((30, 44), "match a subset"),
        ((-9, (1 << 63) - 1), "subset of"),
        ((-99, 6), "a long"),
        ((0, -41), "a long"),
        ((3, 3), ""),
        ((47, 99), None),
        ((9, -99), None),
    ],
)
@pytest.mark.parametrize("kind", [str, bytes])
def test_subsets_count_from_either_end(subset: tuple[int, int], expected: str | None, kind: type) -> None:
    text = "a long string that we want to match a subset of"
    value, want = (text, expected) if kind is str else (text.encode(), expected and expected.encode())
    found = reached(value, {".": {"subset": {"[": subset[0], "]": subset[1]}}})
    if expected is None:
        assert found == [("", value, False)]
    elif expected == "":
        assert found == [("", kind(), True)]
    else:
        assert found == [("", want, True)]


def test_a_subset_of_what_is_neither_text_nor_bytes_matches_nothing() -> None:
    assert reached([1], {".": {"subset": {"[": 0, "]": 9}}}) == [("", list, False)]


def _hunks(name: str) -> dict[str, dict[str, str]]:
    """The fixtures of one file by name; ``[testmark]:# (fixture/hunk)`` stands before each of their code blocks."""
    text = fixture(f"ipld+ipld/specs/selectors/fixtures/{name}.md").read_text()
    found: dict[str, dict[str, str]] = {}
    for mark, body in re.findall(r"\[testmark\]:# \(([^)]+)\)\n```\w*\n(.*?)```", text, re.S):
        one, hunk = mark.split("/")
        found.setdefault(one, {})[hunk] = body
    return found


def _described(node: Any) -> dict[str, Any]:
    match node:
        case dict():
            return {"map": None}
        case list():
            return {"list": None}
        case bytes():
            return {"bytes": json.loads(dagjson.render(node))}
        case None:
            return {"null": None}
    return {{bool: "bool", int: "int", str: "string"}[type(node)]: node}


@pytest.mark.parametrize("name", ["selector-fixtures-1", "selector-fixtures-recursion"])
def test_fixtures_of_the_specification(name: str) -> None:
    for one, hunks in _hunks(name).items():
        blocks = MemoryBlocks()
        root = put(blocks, hunks["data"].encode(), DAG_JSON)
        steps = [
            {"path": step.path, "node": _described(step.node), "matched": step.matched}
            for step in select(blocks, root, parse(hunks["selector"]))
        ]
        assert steps == [json.loads(line) for line in hunks["expect-visit"].splitlines() if line], one


def test_fixture_of_a_unixfs_file_made_of_dag_json() -> None:
    hunks = _hunks("selector-fixtures-adl")["adl-interpreted"]
    selector = parse(hunks["selector"])
    with ReadOnlyBlockstore.open(
        fixture("ipld+ipld/specs/selectors/fixtures/selector-fixtures-adl.car")
    ) as car:
        steps = list(select(car, car.roots[0], selector))
        assert len(list(Selection(car, ((car.roots[0], selector),)).walk())) == 5
    expected = json.loads(hunks["expect-visit"])
    assert [
        {"path": step.path, "node": _described(step.node), "matched": step.matched} for step in steps
    ] == [expected]


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        ([], "selector is a keyed union and thus must be a map"),
        ({}, "selector is a keyed union and thus must be single-entry map"),
        ({".": {}, "a": {}}, "selector is a keyed union and thus must be single-entry map"),
        ({"x": {}}, '"x" is not a known member of the selector union'),
        ({"&": {}}, '"&" is not a known member of the selector union'),
        ({"a": 1}, "selector body must be a map"),
        ({"a": {}}, "next field must be present in ExploreAll selector"),
        ({"f": {}}, "fields in ExploreFields selector must be present"),
        ({"f": {"f>": []}}, "fields in ExploreFields selector must be a map"),
        ({"i": {">": MATCH}}, "index field must be present in ExploreIndex selector"),
        ({"i": {"i": "1", ">": MATCH}}, "index field must be a number in ExploreIndex selector"),
        ({"i": {"i": True, ">": MATCH}}, "index field must be a number in ExploreIndex selector"),
        ({"i": {"i": 1 << 64, ">": MATCH}}, "index field must be a number in ExploreIndex selector"),
        (
            {"r": {"^": 3, "$": 3, ">": MATCH}},
            "end field must be greater than start field in ExploreRange selector",
        ),
        ({"|": {}}, "explore union selector must be a list"),
        ({"@": {}}, "ExploreRecursiveEdge must be beneath ExploreRecursive"),
        ({"R": {":>": {"@": {}}}}, "limit field must be present in ExploreRecursive selector"),
        (
            {"R": {"l": {"x": 1}, ":>": {"@": {}}}},
            '"x" is not a known member of the limit union in ExploreRecursive',
        ),
        (
            {"R": {"l": {"none": {}}, ":>": MATCH}},
            "ExploreRecursive must have at least one ExploreRecursiveEdge",
        ),
        ({"R": {"l": {"none": {}}, ":>": {"@": {}}, "!": {"/": "x"}}}, "condition_link must be a link"),
        (
            {"R": {"l": {"none": {}}, ":>": {"@": {}}, "!": {"=": 1}}},
            '"=" is not a known member of the condition union',
        ),
        ({"~": {">": MATCH}}, "the 'as' field must be present in ExploreInterpretAs clause"),
        ({"~": {"as": "unixfs"}}, "the 'next' field must be present in ExploreInterpretAs clause"),
        ({".": {"subset": {"[": 2, "]": 1}}}, "less than or equal to the 'to' key"),
    ],
)
def test_what_is_no_selector_is_rejected_in_the_words_of_others(selector: Any, message: str) -> None:
    with pytest.raises(Malformed, match="^selector spec parse rejected: .*" + re.escape(message)):
        parse(json.dumps(selector))


KEYS = st.sampled_from([*"afirR|@~.&>^$!l", ":>", "f>", "as", "subset", "[", "]", "none", "depth", "/"])
JSON = st.recursive(
    st.integers(-9, 9) | st.sampled_from(["unixfs", "x"]) | st.none(),
    lambda inner: st.dictionaries(KEYS, inner, max_size=3) | st.lists(inner, max_size=3),
)
SELECTORS: st.SearchStrategy[Any] = st.recursive(
    st.just(MATCH) | st.just({"@": {}}),
    lambda inner: st.one_of(
        st.builds(lambda each: {"a": {">": each}}, inner),
        st.builds(lambda each: {"|": each}, st.lists(inner, max_size=3)),
        st.builds(lambda each: {"i": {"i": 0, ">": each}}, inner),
        st.builds(lambda each: {"r": {"^": 0, "$": 2, ">": each}}, inner),
        st.builds(lambda each: fields(link=each, Links=each, Hash=each), inner),
        st.builds(lambda each: {"~": {"as": "unixfs", ">": each}}, inner),
        st.builds(
            lambda each, limit: {"R": {"l": limit, ":>": {"|": [each, {"a": {">": {"@": {}}}}]}}},
            inner,
            st.sampled_from([{"none": {}}, {"depth": 1}, {"depth": 3}]),
        ),
    ),
    max_leaves=8,
)


@given(JSON | SELECTORS, st.text(max_size=30))
def test_the_parser_gives_a_selector_or_a_car_error(value: Any, text: str) -> None:
    for each in (json.dumps(value), text, json.dumps(value) + text):
        try:
            parse(each)
        except CarError:
            pass


def test_deep_and_long_selectors_are_refused() -> None:
    nested = '{"a":{">":' * 129 + '{".":{}}' + "}}" * 129
    with pytest.raises(LimitExceeded):
        parse(nested)
    with pytest.raises(CarError):
        parse('{"a":{">":' * 100_000)
    with pytest.raises(LimitExceeded):
        parse(" " * ((1 << 20) + 1))


def _compiled(value: Any) -> Any:
    try:
        return compile_selector(value)
    except CarError:
        return None


@given(dags(), SELECTORS.map(_compiled).filter(lambda selector: selector is not None))
def test_going_through_each_block_once_finds_the_same_blocks(dag: Dag, selector: Any) -> None:
    """Blocks of a selection are those that go-ipld-prime's walk loads: all paths, first visits only."""
    rules = Rules(whole_cids=True, identity=True)
    visits = [step.visit for step in select(dag.blocks, dag.root, selector)]
    every = list(dict.fromkeys(visit.cid for visit in visits))
    selection = Selection(dag.blocks, ((dag.root, selector),), rules)
    assert [visit.cid for visit in selection.walk()] == every
    matched = dict.fromkeys(step.visit.cid for step in select(dag.blocks, dag.root, selector) if step.matched)
    only = Selection(dag.blocks, ((dag.root, selector),), rules, matched_only=True)
    assert [visit.cid for visit in only.walk()] == list(matched)


@given(dags())
def test_selecting_all_is_the_walk_over_the_dag(dag: Dag) -> None:
    expected = [visit.cid for visit in Traversal.of(dag.blocks, dag.root).walk()]
    slow = parse(json.dumps({"|": [{"i": {"i": 10**9, ">": MATCH}}, ALL_MATCHED]}))  # the long way round
    for selector in (EXPLORE_ALL, MATCH_ALL, parse(json.dumps(ALL_MATCHED)), slow):
        selection = Selection(dag.blocks, ((dag.root, selector),))
        assert [visit.cid for visit in selection.walk()] == expected
        assert [visit.cid for visit in selection.walk(data=False)] == expected


def test_common_selectors_are_those_of_go() -> None:
    assert parse('{"R":{"l":{"none":{}},":>":{"a":{">":{"@":{}}}}}}') == EXPLORE_ALL
    assert parse(json.dumps(ALL_MATCHED)) == MATCH_ALL


def test_dag_pb_is_seen_as_links_and_data() -> None:
    blocks = MemoryBlocks()
    leaf = put_raw(blocks, b"leaf")
    root = put_node(blocks, (PBLink(leaf, b"name", 4), PBLink(leaf, named=False, sized=False)), b"data")
    inner = list(select(blocks, root, parse(json.dumps(ALL_MATCHED))))
    assert [(step.path, _plain(step.node)) for step in inner] == [
        ("", dict),
        ("Links", list),
        ("Links/0", dict),
        ("Links/0/Hash", b"leaf"),
        ("Links/0/Name", "name"),
        ("Links/0/Tsize", 4),
        ("Links/1", dict),
        ("Links/1/Hash", b"leaf"),
        ("Data", b"data"),
    ]
    assert [step.path for step in inner if step.is_block] == ["", "Links/0/Hash", "Links/1/Hash"]
    assert {step.visit.cid for step in inner if not step.is_block} == {root}


def test_a_recursion_stops_at_a_link() -> None:
    dag = Dag()
    genesis = dag.add(DAG_CBOR, [])
    middle = dag.add(DAG_CBOR, [genesis])
    head = dag.add(DAG_CBOR, [middle])
    recursion = {"l": {"none": {}}, ":>": {"a": {">": {"@": {}}}}, "!": {"/": {"/": str(middle)}}}
    selection = Selection(dag.blocks, ((head, parse(json.dumps({"R": recursion}))),))
    assert [visit.cid for visit in selection.walk()] == [head]


def test_what_is_missing_is_an_error_or_gone_around_and_limits_hold() -> None:
    blocks = CountingBlocks()
    gone, here = put_raw(blocks, b"gone"), put_raw(blocks, b"here")
    root = put_node(blocks, (PBLink(gone), PBLink(here)))
    blocks.forget(gone)
    hashes = parse(json.dumps(fields(Links={"a": {">": fields(Hash=MATCH)}})))
    with pytest.raises(BlockNotFound):
        list(select(blocks, root, hashes))
    walk = Selection(blocks, ((root, hashes),), Rules(skip_missing=True)).walk()
    assert [visit.cid for visit in walk] == [root, here]
    assert walk.missing == (gone,)
    limited = Rules(skip_missing=True, limits=Limits(blocks=1))
    with pytest.raises(LimitExceeded):
        list(Selection(blocks, ((root, hashes),), limited).walk())


def test_a_dag_with_more_paths_than_atoms_is_selected_in_its_size() -> None:
    dag = Dag()
    dag.add(RAW, [], b"end")
    for _ in range(200):
        dag.add(DAG_PB, [dag.root, dag.root])
    links = fields(Links={"a": {">": fields(Hash={"@": {}})}})
    selector = parse(json.dumps({"R": {"l": {"depth": 1000}, ":>": {"|": [MATCH, links]}}}))
    assert len(list(Selection(dag.blocks, ((dag.root, selector),)).walk())) == 201


def test_selectors_that_would_multiply_stay_few() -> None:
    """Two edges for each level double in other implementations; here equal selectors are one."""
    edge: Any = {"a": {">": {"@": {}}}}
    selector = {"R": {"l": {"none": {}}, ":>": {"|": [MATCH, edge, edge, {"|": [edge]}]}}}
    value: Any = "end"
    for _ in range(60):
        value = [value]
    assert len(reached(value, selector)) == 61


def as_unixfs(inner: Any, view: str = "unixfs") -> dict[str, Any]:
    return {"~": {"as": view, ">": inner}}


def test_the_first_quarter_of_a_file_of_zeros_is_two_blocks() -> None:
    """go-car's TestPartialTraversal: 256,000 of 1,000,000 zero bytes are the root and the leaf that all share."""
    blocks = MemoryBlocks()
    zeros = put_raw(blocks, bytes(262_144))
    root = put_file(blocks, [*[(zeros, 262_144)] * 3, (put_raw(blocks, bytes(213_568)), 213_568)])
    selector = parse(json.dumps(as_unixfs({".": {"subset": {"[": 0, "]": 256_000}}})))
    (step,) = select(blocks, root, selector)
    assert (len(step.node), bytes(step.node)) == (256_000, bytes(256_000))
    assert [visit.cid for visit in Selection(blocks, ((root, selector),)).walk()] == [root, zeros]


def test_a_matched_file_is_all_its_blocks_and_a_part_only_those_that_hold_it() -> None:
    blocks = MemoryBlocks()
    parts = [put_raw(blocks, bytes([97 + number]) * 10) for number in range(4)]
    root = put_file(blocks, [(part, 10) for part in parts])
    whole = Selection(blocks, ((root, parse(json.dumps(as_unixfs(MATCH)))),))
    assert [visit.cid for visit in whole.walk()] == [root, *parts]
    selector = parse(json.dumps(as_unixfs({".": {"subset": {"[": 15, "]": -10}}})))
    (step,) = select(blocks, root, selector)
    assert bytes(step.node) == b"bbbbbcccccccccc"
    assert [visit.cid for visit in Selection(blocks, ((root, selector),)).walk()] == [root, *parts[1:3]]


def test_names_lead_through_directories_seen_as_maps() -> None:
    blocks = MemoryBlocks()
    leaf = put_raw(blocks, b"content")
    inner = put_directory(blocks, [(b"file", leaf), (b"other", put_raw(blocks, b"other"))])
    root = put_directory(blocks, [(b"dir", inner)])
    selector = parse(json.dumps(as_unixfs(fields(dir=as_unixfs(fields(file=as_unixfs(MATCH)))))))
    steps = list(select(blocks, root, selector))
    assert [(step.path, step.matched) for step in steps] == [("", False), ("dir", False), ("dir/file", True)]
    assert [visit.cid for visit in Selection(blocks, ((root, selector),)).walk()] == [root, inner, leaf]


def test_dag_pb_that_is_no_unixfs_is_seen_as_its_named_links() -> None:
    blocks = MemoryBlocks()
    leaf = put_raw(blocks, b"leaf")
    for data in (None, b"", b"not UnixFS"):
        root = put_node(blocks, (PBLink(leaf, b"l"),), data)
        steps = select(blocks, root, parse(json.dumps(as_unixfs(fields(l=MATCH)))))
        assert [(step.path, step.matched) for step in steps] == [("", False), ("l", True)]


def test_of_a_sharded_directory_only_the_shards_on_the_way_are_touched() -> None:
    root = Cid.parse("bafybeiggvykl7skb2ndlmacg2k5modvudocffxjesexlod2pfvg5yhwrqm")
    with ReadOnlyBlockstore.open(
        fixture("ipfs+kubo/test/cli/fixtures/TestGatewayHAMTDirectory.car")
    ) as blocks:
        name = next(iter(Directory.open(blocks, root))).name.decode()

        def count(selector: Any) -> int:
            target = (root, parse(json.dumps(selector)))
            return len(list(Selection(blocks, (target,), Rules(skip_missing=True)).walk()))

        assert count(as_unixfs(fields(**{name: MATCH}))) == 2
        assert count(as_unixfs(MATCH)) == 1
        assert count(as_unixfs(MATCH, "unixfs-preload")) == 961


def test_a_view_that_nobody_knows_is_an_error() -> None:
    with pytest.raises(Malformed, match='unregistered adl requested: "hamt"'):
        reached({}, as_unixfs(MATCH, "hamt"))


@given(st.binary(max_size=60), st.integers(-70, 70), st.integers(-70, 70))
def test_a_subset_of_a_file_is_the_slice_that_a_string_would_have(data: bytes, first: int, last: int) -> None:
    if 0 <= last < first:
        return
    blocks = MemoryBlocks()
    root = Builder(blocks, CARFS).file([data[at : at + 7] for at in range(0, len(data), 7)]).cid
    matcher = {".": {"subset": {"[": first, "]": last}}}
    (step,) = select(blocks, root, compile_selector(as_unixfs(matcher)))
    ((_, plain, matched),) = reached(data, matcher)
    assert step.matched == matched
    assert bytes(step.node) == plain


def test_paths_are_selectors_of_fields() -> None:
    assert from_path("a/0") == compile_selector(fields(a=fields(**{"0": MATCH})))
    assert from_path("/a/") == from_path("a")
    assert from_path("") == compile_selector(MATCH)
    assert from_path("a", match_path=True) == compile_selector({"|": [MATCH, fields(a=MATCH)]})
