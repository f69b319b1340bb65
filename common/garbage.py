"""Python's search for cyclic garbage, in processes that serve.

It stops the process for as long as it looks. What a start leaves behind, objects of modules and
models, never becomes garbage and would be looked at again and again.
"""

from __future__ import annotations

import gc
from typing import Final

# More objects than a few requests make, before the youngest are looked at.
_YOUNG: Final = 10_000


def settle() -> None:
    """What there is now is left alone from here on; called once, before a process serves."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, *gc.get_threshold()[1:])
