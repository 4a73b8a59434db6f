"""What is said of imports at the start, in the words of Lotus' log, which its users grep for. Pure."""

from __future__ import annotations

import json

BEGIN = "sanity checking imports"
NO_METADATA = "failed to query metadata for import; skipping"
LACKS_CAR = "import lacks carv2 path; import will not work; please reimport"
BROKEN_CAR = "import has missing/broken carv2; please reimport"
OK = "import ok"
END = "sanity check completed"


def line(message: str, **fields: object) -> str:
    """The message, and what stands behind it, in the form of Lotus' log."""
    return f"{message} {json.dumps(fields)}" if fields else message


def about(number: int, source: str, root: str, original: str) -> dict[str, object]:
    """What all lines about an import say of it."""
    return {"id": number, "source": source, "root": root, "original": original}
