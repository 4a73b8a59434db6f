"""What Lotus' ClientRetrieve and ClientExport mean by their DAG specifications: which roots, and which blocks.

Errors come in Lotus' words, as people search for them.  Source: lotus ``node/impl/client``: of a selector's matches the
first one's block is the root of what is exported; a CAR holds the blocks in which something matches, identity CIDs
too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from carlib.blockstore import Blocks
from carlib.cid import Cid
from carlib.errors import CarError
from carlib.selectors.clauses import MATCH_ALL, Selector
from carlib.selectors.evaluate import Selection, select
from carlib.selectors.parser import parse
from carlib.selectors.text import data_selector, from_path
from carlib.traversal import Limits, Rules


class NoSelection(CarError):
    """A selector leads to nothing that can be exported: no node, none with a CID of its own, or too many."""


@dataclass(frozen=True, slots=True)
class DagSpec:
    """One part of the DAG: a JSON selector or a text path, and whether the blocks on the path go with it."""

    data_selector: str
    merkle_proof: bool = False


def car_selection(
    blocks: Blocks, root: Cid, specs: Sequence[DagSpec], *, limits: Limits | None = None
) -> Selection:
    """The blocks of a CAR with one root for each of ``specs``, each block once; all below ``root`` for no specs.

    Raises NoSelection, Malformed, and what a traversal raises.
    """
    rules = Rules(whole_cids=True, identity=True, limits=Limits() if limits is None else limits)
    if not specs:
        return Selection(blocks, ((root, MATCH_ALL),), rules, matched_only=True)
    targets, roots = [], []
    for spec in specs:
        selector, pointer = _selectors(spec.data_selector, match_path=spec.merkle_proof)
        roots.append(_first_match(blocks, root, pointer, rules, block_only=False))
        targets.append((root, selector))
    return Selection(blocks, tuple(targets), rules, matched_only=True, header_roots=tuple(roots))


def unixfs_root(blocks: Blocks, root: Cid, specs: Sequence[DagSpec], *, limits: Limits | None = None) -> Cid:
    """The root of the one file or directory that ``specs`` lead to, or ``root`` for no specs; errors as above."""
    rules = Rules(limits=Limits() if limits is None else limits)
    pointers = [_selectors(spec.data_selector)[1] for spec in specs]
    roots = [_first_match(blocks, root, pointer, rules, block_only=True) for pointer in pointers] or [root]
    if len(roots) != 1:
        raise NoSelection(f"unixfs retrieval requires one root node, got {len(roots)}")
    return roots[0]


def _selectors(text: str, *, match_path: bool = False) -> tuple[Selector, Selector]:
    """What is selected, and what leads to its root."""
    try:
        selector = data_selector(text, match_path=match_path)
    except CarError as error:
        error.message = f"parsing dag spec: {error.message}"
        raise
    return selector, parse(text) if text.startswith("{") else from_path(text, match_path=match_path)


def _first_match(blocks: Blocks, root: Cid, selector: Selector, rules: Rules, *, block_only: bool) -> Cid:
    for step in select(blocks, root, selector, rules=rules):
        if not step.matched:
            continue
        if block_only and not step.is_block:
            raise NoSelection(
                "parsing dag spec: error while locating partial retrieval sub-root: unsupported selection path "
                f"'{step.path}' does not correspond to a block boundary (a.k.a. CID link)"
            )
        return step.visit.cid
    raise NoSelection(f"parsing dag spec: path selection does not match a node within {root}")
