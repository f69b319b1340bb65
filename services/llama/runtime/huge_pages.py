"""Has Linux back weights and KV cells with pages of 2 MiB instead of 4 KiB.

Each decode reads all weights once. In small pages a tenth and more of that is looking pages up (measured
in a virtual machine), and where transparent huge pages are on `madvise` nobody gets them who does not
ask.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import structlog

_MAPS: Final = Path("/proc/self/maps")
_SETTING: Final = Path("/sys/kernel/mm/transparent_hugepage/enabled")
# Of <linux/mman.h>.
_HUGEPAGE, _COLLAPSE = 14, 25
_PAGE: Final = 2 * 2**20
# Smaller ones are Python's, or a graph's.
_LEAST: Final = 4 * _PAGE

_log = structlog.get_logger()


def wish() -> bool:
    """For large memory as it is now: what is written to it from now on lies in huge pages.

    True, as llama.cpp wants it of what it calls while it loads.
    """
    for start, length in _regions():
        _advise(start, length, _HUGEPAGE)
    return True


def collapse() -> None:
    """As `wish`, and moves what was written before; some 1 GiB a second, Linux 6.1 or later."""
    moved = 0
    for start, length in _regions():
        _advise(start, length, _HUGEPAGE)
        first = -(-start // _PAGE) * _PAGE
        # One by one: a hole where nothing was written yet would end the call.
        for page in range(first, start + length - _PAGE + 1, _PAGE):
            moved += _advise(page, _PAGE, _COLLAPSE)
    _log.debug("huge pages", mib=moved * _PAGE // 2**20)


def _regions() -> Iterator[tuple[int, int]]:
    """Address and bytes of this process's large memory that is no file's; none where it is off."""
    if sys.platform != "linux" or not _wanted():
        return
    for line in _MAPS.read_text().splitlines():
        addresses, rights, _, device, inode, *name = line.split(maxsplit=5)
        start, end = (int(address, 16) for address in addresses.split("-"))
        anonymous = rights == "rw-p" and (device, inode) == ("00:00", "0") and not name
        if anonymous and end - start >= _LEAST:
            yield start, end - start


def _wanted() -> bool:
    """Whether the system leaves it to its processes: `always` needs no wish, `never` is a word."""
    try:
        return "[madvise]" in _SETTING.read_text()
    except OSError:
        return False


def _advise(start: int, length: int, advice: int) -> bool:
    """Whether the kernel took it; if not nothing is lost."""
    return not _madvise()(start, length, advice)


@cache
def _madvise() -> Any:
    function: Any = ctypes.CDLL(None).madvise
    function.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return function
