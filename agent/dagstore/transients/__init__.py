"""Copies of remote data on this machine's disk, block by block, as far as somebody has read them."""

from agent.dagstore.transients.means import Visits
from agent.dagstore.transients.quota import Limits
from agent.dagstore.transients.store import GcResult, Settings, Statistics, Transients, open_transients
from agent.dagstore.transients.transient import Transient

__all__ = [
    "GcResult", "Limits", "Settings", "Statistics", "Transient", "Transients", "Visits", "open_transients",
]  # fmt: skip
