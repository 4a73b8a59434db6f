"""`make bench`: speed and memory, side by side with plain files and with other tools where they can be had.

`data` makes what is measured, `peers` fetches the other tools, `library`, `mounts` and `memory` measure, `table`
prints. All of it lies in `.bench`, which is kept for the next run; `make clean` removes it.
"""
