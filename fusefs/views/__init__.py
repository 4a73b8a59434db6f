"""What the directory of a shard, an import or a retrieval shows: one module for each entry, and one line here."""

from collections.abc import Mapping

from fusefs.catalogue import What
from fusefs.views import blocks, document, joined, payload, roots
from fusefs.views.view import View

_CONTENT: tuple[View, ...] = (
    roots.RootLink(),
    roots.Roots(),
    blocks.Blocks(),
    payload.Payload(),
    joined.Joined(),
)
VIEWS: Mapping[What, tuple[View, ...]] = {
    what: (*_CONTENT, document.Document(f"{what}.json".encode())) for what in What
}
