"""Copies of remote data on this machine's disk, block by block, as far as somebody has read them."""

from agent.dagstore.transients.quota import Limits
from agent.dagstore.transients.store import GcResult, Settings, Statistics, Transients, open_transients
from agent.dagstore.transients.transient import Gate, Transient

__all__ = [
    "Gate", "GcResult", "Limits", "Settings", "Statistics", "Transient", "Transients", "open_transients",
]  # fmt: skip
