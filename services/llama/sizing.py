"""How large the KV cache may be: arithmetic over a model's metadata and the memory there is."""

from __future__ import annotations

from services.llama.runtime.gguf import Header
from services.worker.backend import StartupError

# Of the memory that weights leave, the share that an unasked-for context may take.
_CACHE_SHARE = 0.5
# What an untrained-for context defaults to.
_UNKNOWN_CONTEXT = 4096
_LEAST_CELLS = 256

# Bytes per value.
_BYTES = {
    "f32": 4.0, "f16": 2.0, "bf16": 2.0, "q8_0": 34 / 32, "q5_1": 24 / 32, "q5_0": 22 / 32,
    "q4_1": 20 / 32, "q4_0": 18 / 32,
}  # fmt: skip


def bytes_per_cell(header: Header, type_k: str, type_v: str) -> float:
    """KV bytes of one token in all layers. 0 where the metadata does not say."""
    layers = header.setting("block_count")
    heads = header.setting("attention.head_count")
    width = header.setting("embedding_length")
    if not all(isinstance(v, int) and v > 0 for v in (layers, heads, width)):
        return 0.0
    kv_heads = header.setting("attention.head_count_kv")
    kv_heads = kv_heads if isinstance(kv_heads, int) else heads
    key = header.setting("attention.key_length") or width // heads
    value = header.setting("attention.value_length") or width // heads
    return float(layers * kv_heads * (key * _BYTES[type_k] + value * _BYTES[type_v]))


def trained_context(header: Header) -> int:
    """Tokens; 0 where the file does not say. Raises StartupError for what is no length."""
    said = header.setting("context_length")
    if said is None:
        return 0
    if not isinstance(said, int) or isinstance(said, bool) or not 0 <= said < 2**31:
        raise StartupError("broken GGUF file: its context_length is no number of tokens")
    return said


def choose_cells(
    header: Header,
    wanted: int,
    *,
    type_k: str,
    type_v: str,
    memory: int | None,
    gpu: bool,
) -> int:
    """KV cells to make: what is wanted, or (0) the trained context as far as memory goes.

    `memory` is what is available, in bytes; None: not known. Raises StartupError when it cannot
    work, instead of being killed for memory later.
    """
    trained = trained_context(header)
    per_cell = bytes_per_cell(header, type_k, type_v)
    if memory is None or gpu:
        return wanted or trained or _UNKNOWN_CONTEXT
    left = memory - header.size
    if left <= 0:
        raise StartupError(f"the model has {_mib(header.size)}, of memory there are {_mib(memory)}")
    if wanted:
        if per_cell * wanted > left:
            raise StartupError(
                f"--ctx-size {wanted} needs {_mib(per_cell * wanted)} for the KV cache, beside the "
                f"model there are {_mib(left)}"
            )
        return wanted
    affordable = int(left * _CACHE_SHARE / per_cell) if per_cell else _UNKNOWN_CONTEXT
    cells = min(trained or _UNKNOWN_CONTEXT, affordable)
    if cells < min(_LEAST_CELLS, trained or _LEAST_CELLS):
        raise StartupError(f"memory suffices for a context of {cells} tokens only; see --ctx-size")
    return cells


def _mib(size: float) -> str:
    return f"{size / 2**20:,.0f} MiB"
