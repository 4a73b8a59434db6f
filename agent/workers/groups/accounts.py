"""What the files of a memory group say, as numbers."""

from __future__ import annotations


def keyed(text: str) -> dict[str, int]:
    """`name value` on a line each: memory.stat, memory.events, memory.oom_control."""
    pairs = (line.split() for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def droppable(stat: dict[str, int]) -> int:
    """Bytes of a group that the kernel can take back at once: pages of files, but those still to be written.

    tmpfs is not among them, which the kernel keeps on the lists of anonymous memory. v1 has the names of v2 for the
    group alone, and others for it with all below; ours have none below.
    """
    pages = stat.get("inactive_file", 0) + stat.get("active_file", 0)
    unwritten = stat.get("file_dirty", stat.get("dirty", 0)) + stat.get(
        "file_writeback", stat.get("writeback", 0)
    )
    return max(0, pages - unwritten)
