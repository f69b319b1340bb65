"""llama.cpp's functions as this package calls them: typed, and with the GIL held or given up.

A small call through CDLL gives the GIL up and, while another thread is busy, waits hundreds of
microseconds to have it back: microsecond calls go through PyDLL, long ones through CDLL.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
from llama_cpp import llama_cpp as raw
from numpy.typing import NDArray

LIB_DIR = Path(raw.__file__).parent / "lib"

# The library as llama_cpp loaded it: a second copy would have a registry of its own.
_handle: Any = raw._lib  # noqa: SLF001 -- it has no public name
_held = ctypes.PyDLL(_handle._name, handle=_handle._handle)  # noqa: SLF001 -- documented in ctypes


def _keep_gil(name: str) -> Any:
    original = getattr(_handle, name)
    function = getattr(_held, name)
    function.restype, function.argtypes = original.restype, original.argtypes
    return function


def pointer_to(array: NDArray[Any], kind: Any) -> Any:
    """To an array's first element, for a structure; the array must live as long as that one."""
    return ctypes.cast(array.ctypes.data, ctypes.POINTER(kind))


def pointers_to_each(slots: NDArray[np.int32]) -> NDArray[np.uint64]:
    """As llama_batch has it, where each token belongs to one sequence."""
    addresses = slots.ctypes.data + slots.itemsize * np.arange(len(slots), dtype=np.uint64)
    return addresses.astype(np.uint64)


# Microseconds: the GIL is kept.
get_logits_ith = _keep_gil("llama_get_logits_ith")
get_logits_ith.restype = ctypes.c_void_p
memory_seq_rm = _keep_gil("llama_memory_seq_rm")
memory_seq_cp = _keep_gil("llama_memory_seq_cp")
token_to_piece = _keep_gil("llama_token_to_piece")
vocab_is_eog = _keep_gil("llama_vocab_is_eog")
vocab_get_attr = _keep_gil("llama_vocab_get_attr")
vocab_get_text = _keep_gil("llama_vocab_get_text")

# Milliseconds: the GIL is given up.
decode = raw.llama_decode
tokenize = raw.llama_tokenize
synchronize = raw.llama_synchronize
