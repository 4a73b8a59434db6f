"""What each captured machine must give; `captures/` has the files, and each says in its first line what it is."""

from __future__ import annotations

