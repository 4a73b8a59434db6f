"""The inverted index: which shards hold the block of a multihash.

    per-shard index files ──► worker task `invert` ──► immutable segments ──► mapped, searched in the event loop
    (the truth)               (`builder.py`)            (`segment.py`)         (`index.py`)

Everything here is derived from the shards' own index files: what is damaged, missing or not of the catalogue's
generation is made anew from them, and losing all of it costs time and nothing else.
"""
