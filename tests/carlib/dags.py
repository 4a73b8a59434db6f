"""Random DAGs of mixed codecs, and the plain recursive walk that ours is held against."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from carlib import dagcbor, dagpb
from carlib.blockstore import MemoryBlocks
from carlib.cid import DAG_CBOR, DAG_PB, RAW, Cid
from carlib.dagpb import PBLink, PBNode


@dataclass(slots=True)
class Dag:
    """A store, its last node as ``root``, and what links to what by binary CID."""

    blocks: MemoryBlocks = field(default_factory=MemoryBlocks)
    cids: list[Cid] = field(default_factory=list)
    children: dict[bytes, list[Cid]] = field(default_factory=dict)

    @property
    def root(self) -> Cid:
        return self.cids[-1]

    def add(self, codec: int, children: list[Cid], salt: bytes = b"", *, identity: bool = False) -> Cid:
        if codec == DAG_PB:
            data = dagpb.encode(PBNode(tuple(PBLink(cid) for cid in children), salt))
        elif codec == DAG_CBOR:
            data = dagcbor.encode([{"link": cid} for cid in children] + [salt])
        else:
            data, children = salt, []
        cid = Cid.identity(data, codec) if identity else Cid.of(data, codec)
        self.blocks.put(cid, data)
        self.cids.append(cid)
        self.children[cid.raw] = children
        return cid

    def preorder(self, *roots: Cid) -> list[Cid]:
        """First visits, depth first, identity CIDs included."""
        found: dict[Cid, None] = {}

        def visit(cid: Cid) -> None:
            if cid not in found:
                found[cid] = None
                for child in self.children[cid.raw]:
                    visit(child)

        for root in roots or (self.root,):
            visit(root)
        return list(found)

    def every_visit(self, cid: Cid) -> list[Cid]:
        """As they come, however often."""
        return [cid, *(each for child in self.children[cid.raw] for each in self.every_visit(child))]


@st.composite
def dags(draw: st.DrawFn, *, identity: bool = True) -> Dag:
    dag = Dag()
    for number in range(draw(st.integers(1, 12))):
        codec = draw(st.sampled_from((RAW, DAG_PB, DAG_CBOR, 0x78)))
        picks: Any = st.lists(st.sampled_from(dag.cids), max_size=4) if dag.cids else st.just([])
        salt = draw(st.sampled_from((b"", b"same", bytes([number]))))
        dag.add(codec, draw(picks), salt, identity=identity and draw(st.integers(0, 4)) == 0)
    return dag
