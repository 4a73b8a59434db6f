"""IPLD selectors: from dag-json or a text path to the nodes that match and the blocks that hold them.

:func:`select` gives nodes, :class:`Selection` blocks, :mod:`~carlib.selectors.retrieval` what Lotus' client makes of
them.
"""

from carlib.selectors.clauses import EXPLORE_ALL, MATCH_ALL, Selector
from carlib.selectors.evaluate import Selection, Step, select
from carlib.selectors.parser import compile_selector, parse
from carlib.selectors.retrieval import DagSpec, NoSelection, car_selection, unixfs_root
from carlib.selectors.text import data_selector, from_path

__all__ = [
    "EXPLORE_ALL",
    "MATCH_ALL",
    "DagSpec",
    "NoSelection",
    "Selection",
    "Selector",
    "Step",
    "car_selection",
    "compile_selector",
    "data_selector",
    "from_path",
    "parse",
    "select",
    "unixfs_root",
]
