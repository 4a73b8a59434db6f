"""What a shard directory shows: one module for each entry, and one line here."""

from fusefs.views import blocks, document, joined, payload, roots
from fusefs.views.view import View

VIEWS: tuple[View, ...] = (
    roots.RootLink(),
    roots.Roots(),
    blocks.Blocks(),
    payload.Payload(),
    joined.Joined(),
    document.Document(),
)
