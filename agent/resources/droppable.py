"""What the kernel can drop of a group's memory when some of it is asked for, by the group's memory.stat.

All of `file` would be too much: it holds shared memory and tmpfs, which can only be swapped, and pages that must be
written first; locked pages cannot go at all. So, much as the kernel computes MemAvailable:

    inactive_file + active_file / 2 + slab_reclaimable / 2 - file_dirty - file_writeback

The two lists of file pages have neither shared memory nor locked pages in them. Half of what is in use is left to it:
dropping more than that makes the group read everything again.
"""

from __future__ import annotations

RULE = "without what can be dropped: inactive_file + active_file/2 + slab_reclaimable/2 - dirty - writeback"


def droppable(stat: dict[str, int], *, is_v2: bool) -> int:
    """Bytes, from the numbers of memory.stat; never below 0. Of v1 those of all groups below are taken, too."""
    if is_v2:
        lists = ("inactive_file", "active_file", "slab_reclaimable", "file_dirty", "file_writeback")
    else:  # `total_…` are with the groups below, as usage_in_bytes is; slab is not told
        lists = ("total_inactive_file", "total_active_file", "", "total_dirty", "total_writeback")
    inactive, active, slab, dirty, writeback = (stat.get(name, 0) for name in lists)
    return max(0, inactive + active // 2 + slab // 2 - dirty - writeback)
