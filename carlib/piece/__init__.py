"""Filecoin pieces: fr32 padding, commitments, piece CIDs, where pieces lie in sectors and aggregates.

``sizes → fr32 → commitment → cids`` is the data's path; ``kernel`` chooses between C and ``portable`` Python.
"""

from carlib.piece.cids import Piece
from carlib.piece.commitment import Commitment, commit, commit_file, commit_source

__all__ = ["Commitment", "Piece", "commit", "commit_file", "commit_source"]
