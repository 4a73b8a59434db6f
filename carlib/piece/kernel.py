"""The fastest of the ways there are here to hash and pad: ``_kernel.c`` where it was built, else ``portable``.

Both give the same bytes.  The C functions drop the GIL, so threads share a piece among cores; the portable ones do
not, so processes do (``subtree`` can be pickled).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from carlib.piece import portable

if TYPE_CHECKING:
    from carlib.varint import Buffer

Subtree = Callable[["Buffer"], bytes]

try:
    from carlib.piece import _kernel
except ImportError:  # not built: no compiler, or a machine that it does not know
    VARIANTS: tuple[str, ...] = ()
    subtree: Subtree = portable.subtree
    pad: Callable[[Buffer], bytes] = portable.pad
    unpad: Callable[[Buffer], bytes] = portable.unpad
else:
    VARIANTS = _kernel.variants()
    subtree = _kernel.subtree
    pad = _kernel.pad
    unpad = _kernel.unpad

RELEASES_GIL: Final = bool(VARIANTS)
