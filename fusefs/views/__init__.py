"""What the directory of a shard, or of an import, shows: one module for each entry, and one line here."""

from fusefs.views import blocks, document, joined, payload, roots
from fusefs.views.view import View

_CONTENT: tuple[View, ...] = (
    roots.RootLink(),
    roots.Roots(),
    blocks.Blocks(),
    payload.Payload(),
    joined.Joined(),
)
VIEWS: tuple[View, ...] = (*_CONTENT, document.Document(b"shard.json"))
IMPORT_VIEWS: tuple[View, ...] = (*_CONTENT, document.Document(b"import.json"))
