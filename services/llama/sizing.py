"""How much memory a model needs and what fits: arithmetic over its metadata; pure.

The compute buffer's formula was fitted to what llama.cpp reserves (0.3.36, CPU) for shapes of
Llama 3 8B, Qwen 2.5 0.5B, Mixtral, Qwen 3 30B-A3B and Gemma 3: 0 to 15 per cent above it with the
usual settings, more with hundreds of sequences, never more than 4 below.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from services.llama.pooling import CACHELESS
from services.llama.runtime.gguf import Header
from services.worker.backend import StartupError

# Of the memory that weights leave, the share that an unasked-for context may take.
_CACHE_SHARE = 0.5
# What an untrained-for context defaults to.
_UNKNOWN_CONTEXT = 4096
# An unasked-for cache holds this much for every sequence, or one trained context if that is more.
_CELLS_OF_A_SEQUENCE = 4096
_LEAST_CELLS = 256
_DEFAULT_SLOTS = 8
# llama.cpp's own limits.
_MOST_SEQUENCES = 256
_MOST_LAYERS = 512

# llama.cpp's own record of a cell: positions, sequences, free lists.
_CELL_RECORD = 96
# A token's text and type, in llama.cpp and in this process.
_TOKEN_RECORD = 300
# Graphs, thread stacks, queues.
_OVERHEAD = 32 * 2**20
# llama.cpp makes caches of a multiple of this.
CELL_STEP = 256

# Bytes per value.
_BYTES = {
    "f32": 4.0, "f16": 2.0, "bf16": 2.0, "q8_0": 34 / 32, "q5_1": 24 / 32, "q5_0": 22 / 32,
    "q4_1": 20 / 32, "q4_0": 18 / 32,
}  # fmt: skip

# Every which layer looks at everything, where the metadata does not say and llama.cpp knows.
_SWA_PERIODS = {"gemma2": 2, "gemma3": 6, "gpt-oss": 2, "cohere2": 4}


@dataclass(frozen=True, slots=True)
class Shape:
    """What of the settings takes memory."""

    # KV cells, shared by all slots; 0: to be chosen.
    cells: int
    # Sequences at once; 0: to be chosen.
    slots: int
    # Tokens that go through the compute graph together.
    ubatch: int
    type_k: str = "f16"
    type_v: str = "f16"
    flash_attention: bool = True
    # Whether layers with a sliding window keep everything.
    swa_full: bool = True
    # Most positions of one decode whose logits are wanted; at least one for each sequence.
    outputs: int = 0
    # Ended sequences that are kept, beyond one for each slot; None: none at all.
    idle: int | None = None
    # How many times the trained context the positions are stretched to.
    stretch: float = 1.0


@dataclass(frozen=True, slots=True)
class Needs:
    """Bytes."""

    weights: float
    cache: float
    compute: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.weights + self.cache + self.compute


def trained_context(header: Header) -> int:
    """Tokens; 0 where the file does not say. Raises StartupError for what is no length."""
    said = header.setting("context_length")
    if said is None:
        return 0
    if not isinstance(said, int) or isinstance(said, bool) or not 0 <= said < 2**31:
        raise StartupError("broken GGUF file: its context_length is no number of tokens")
    return said


def _layers(header: Header) -> range:
    """Raises StartupError for what is no number of layers: llama.cpp ends the process for it."""
    said = header.setting("block_count")
    if said is not None and (not isinstance(said, int) or not 0 < said <= _MOST_LAYERS):
        raise StartupError("broken GGUF file: its block_count is no number of layers")
    return range(said or 0)


def usable_context(header: Header, cells: int, stretch: float = 1.0) -> int:
    """The longest sequence, in tokens: the trained context, stretched, as far as cells go."""
    trained = trained_context(header)
    return min(cells, int(trained * stretch)) if trained else cells


def stretch(header: Header, factor: float, original: int = 0) -> float:
    """How many times the trained context positions reach that are scaled by `factor`; 0: 1.

    The factor counts from the context before scaling: `original`, else what the metadata says
    that it was. A stretched context is never shorter than the trained one.
    """
    trained = trained_context(header)
    if not factor or not trained:
        return 1.0
    original = original or _count(header, "rope.scaling.original_context_length") or trained
    return max(1.0, original * factor / trained)


def choose(header: Header, shape: Shape, *, memory: int | None, adapters: int = 0) -> Shape:
    """The shape with cells and slots filled in where they are 0, all of it within the memory.

    `memory` is what is available, in bytes; None: not known, and then nothing is refused.
    `adapters` is the size of the adapters' files. Raises StartupError when it cannot work,
    instead of being killed for memory later.
    """
    _layers(header)
    if memory is None:
        slots = shape.slots or _DEFAULT_SLOTS
        return replace(shape, slots=slots, cells=shape.cells or _wish(header, shape, slots))
    if shape.cells:
        slots = shape.slots or _slots_for(shape.cells)
        asked = replace(shape, slots=slots)
        if needs(header, asked, adapters).total > memory:
            raise StartupError(_refusal(header, asked, memory, adapters))
        return asked
    asked = replace(shape, slots=shape.slots or _DEFAULT_SLOTS)
    wish = _wish(header, shape, asked.slots)
    cells = _affordable(header, asked, memory, adapters, share=_CACHE_SHARE)
    cells = wish if wish <= cells else max(cells // CELL_STEP * CELL_STEP, _LEAST_CELLS)
    if needs(header, replace(asked, cells=cells), adapters).total > memory:
        raise StartupError(_refusal(header, replace(asked, cells=cells), memory, adapters))
    return replace(asked, cells=cells, slots=shape.slots or _slots_for(cells))


def rounded(cells: int) -> int:
    """As many as llama.cpp makes when it is asked for so many.

    Asked for fewer it makes them all the same, but its process ends at a batch of more tokens than
    it was asked for.
    """
    return math.ceil(cells / CELL_STEP) * CELL_STEP


def needs(header: Header, shape: Shape, adapters: int = 0) -> Needs:
    """What the shape takes beside the process; where the metadata does not say, less."""
    cells = rounded(shape.cells)
    return Needs(
        weights=header.size + adapters + _TOKEN_RECORD * vocabulary(header),
        cache=_cache(header, shape, cells) + cells * _CELL_RECORD,
        compute=_OVERHEAD + _outputs(header, shape) + _graph(header, shape, cells),
    )


def bytes_per_cell(header: Header, type_k: str, type_v: str) -> float:
    """KV bytes of one token in all layers that keep everything. 0: the metadata does not say."""
    layers = _layers(header)
    return sum(_layer_cell(header, layer, type_k, type_v) for layer in layers)


def _wish(header: Header, shape: Shape, slots: int) -> int:
    context = int(trained_context(header) * shape.stretch) or _UNKNOWN_CONTEXT
    return max(context, slots * min(context, _CELLS_OF_A_SEQUENCE))


def _slots_for(cells: int) -> int:
    return max(1, min(_DEFAULT_SLOTS, cells // _LEAST_CELLS))


def _affordable(
    header: Header, shape: Shape, memory: int, adapters: int, share: float = 1.0
) -> int:
    """Cells for which the memory suffices, of what the rest leaves only the share; 0 and more."""
    empty = needs(header, replace(shape, cells=0), adapters)
    # What a cell takes is not the same for all of them: windows fill up, activations hide a mask.
    step = 2**20
    slope = (needs(header, replace(shape, cells=step), adapters).total - empty.total) / step
    cells = int(max(0.0, memory - empty.total) * share / slope)
    while cells > 0:
        over = needs(header, replace(shape, cells=cells), adapters).total - empty.total
        if over <= (memory - empty.total) * share:
            return cells
        cells = int(cells * 0.97) - 1
    return 0


def _refusal(header: Header, shape: Shape, memory: int, adapters: int) -> str:
    """One sentence: what it needs, what there is, what would fit."""
    needed = needs(header, shape, adapters)
    sums = (
        f"needs {_mib(needed.total)} (weights {_mib(needed.weights)}, KV cache "
        f"{_mib(needed.cache)}, compute {_mib(needed.compute)}), of memory there are {_mib(memory)}"
    )
    small = replace(shape, type_k="q8_0", type_v="q8_0", flash_attention=True)
    options = [
        (f"--ctx-size {cells}" + words)
        for words, tried in (("", shape), (" --cache-type-k q8_0 --cache-type-v q8_0", small))
        if (cells := _affordable(header, tried, memory, adapters) // CELL_STEP * CELL_STEP)
        and cells < 2 * shape.cells
    ]
    if options:
        return f"--ctx-size {shape.cells} {sums}; what would fit: {', or '.join(options)}"
    return f"the model {sums}; a smaller one would fit, or one with fewer bits per weight"


def _cache(header: Header, shape: Shape, cells: int) -> float:
    if header.architecture in CACHELESS:
        return 0.0
    windowed = 0 if shape.swa_full else _count(header, "attention.sliding_window")
    sequences = _sequences(header, shape)
    window = math.ceil((windowed * sequences + shape.ubatch) / CELL_STEP) * CELL_STEP
    layers = _layers(header)
    states = sum(_is_recurrent(header, layer) for layer in layers) or len(layers)
    total = _recurrent_state(header) * states * sequences
    for layer in layers:
        kept = min(cells, window) if windowed and _has_window(header, layer) else cells
        total += kept * _layer_cell(header, layer, shape.type_k, shape.type_v)
    return total


def _layer_cell(header: Header, layer: int, type_k: str, type_v: str) -> float:
    if _is_recurrent(header, layer):
        return 0.0
    heads = _count(header, "attention.head_count", layer)
    width = _count(header, "embedding_length")
    if not heads or not width:
        return 0.0
    said = header.setting("attention.head_count_kv")
    kv_heads = heads if said is None else _count(header, "attention.head_count_kv", layer)
    key = _count(header, "attention.key_length") or width // heads
    value = _count(header, "attention.value_length") or width // heads
    if _count(header, "attention.key_length_mla"):
        # Multi-head latent attention keeps one compressed vector, values included.
        value = 0
    return kv_heads * (key * _BYTES[type_k] + value * _BYTES[type_v])


def _has_window(header: Header, layer: int) -> bool:
    """Whether the layer sees only a window; False where it is not known."""
    pattern = header.setting("attention.sliding_window_pattern")
    if isinstance(pattern, Sequence) and not isinstance(pattern, str):
        return layer < len(pattern) and bool(pattern[layer])
    period = pattern if isinstance(pattern, int) else _SWA_PERIODS.get(header.architecture, 0)
    return period > 0 and layer % period < period - 1


def _is_recurrent(header: Header, layer: int) -> bool:
    """Whether the layer has a state instead of cells; False where it is not known."""
    period = _count(header, "full_attention_interval")
    return period > 0 and (layer + 1) % period > 0 and _recurrent_state(header) > 0


def _recurrent_state(header: Header) -> float:
    """Bytes of one sequence in a layer that has a state instead of cells."""
    inner, state = _count(header, "ssm.inner_size"), _count(header, "ssm.state_size")
    convolution = max(0, _count(header, "ssm.conv_kernel") - 1)
    values = inner * state + convolution * (inner + 2 * _count(header, "ssm.group_count") * state)
    width = _count(header, "embedding_length")
    values += (
        width * (_count(header, "wkv.head_size") + 2) if header.setting("wkv.head_size") else 0
    )
    return 4.0 * values


def _graph(header: Header, shape: Shape, cells: int) -> float:
    """llama.cpp's compute buffer, at the most."""
    activations = _activations(header, shape, cells)
    # The last layer goes on with the rows alone that are asked for, in a place of its own.
    last = 1.25 * activations * _output_rows(header, shape) / _rows(header, shape)
    return max(activations + last, _outputs(header, shape)) + _masks(header, shape, cells)


def _activations(header: Header, shape: Shape, cells: int) -> float:
    """The widest place of the graph."""
    width = _count(header, "embedding_length")
    heads = _count(header, "attention.head_count", 0)
    experts = _count(header, "expert_used_count")
    feed = _count(header, "expert_feed_forward_length") or _count(header, "feed_forward_length", 0)
    feed_forward = max(3 * feed, 3 * _count(header, "feed_forward_length", 0))
    if experts:
        feed_forward = max(3 * experts * feed, experts * feed + 2 * experts * width)
    attention = 0
    if not shape.flash_attention:
        query = heads * (_count(header, "attention.key_length") or width // max(1, heads))
        attention = cells * heads + 2 * (query + width)
    return 4.0 * _rows(header, shape) * (4 * width + max(feed_forward, attention))


def _masks(header: Header, shape: Shape, cells: int) -> float:
    masks = 2 if _count(header, "attention.sliding_window") else 1
    return masks * cells * _rows(header, shape) * (2.0 if shape.flash_attention else 4.0)


def _rows(header: Header, shape: Shape) -> int:
    """Tokens of the largest graph: a step of all sequences is one, too."""
    return max(shape.ubatch, _sequences(header, shape))


def _sequences(header: Header, shape: Shape) -> int:
    """Running and kept; of states, which take memory unused, no more kept than running."""
    if shape.idle is None:
        return shape.slots
    idle = 0 if _recurrent_state(header) else shape.idle
    return min(_MOST_SEQUENCES, 2 * shape.slots + idle)


def _outputs(header: Header, shape: Shape) -> float:
    return 4.0 * _output_rows(header, shape) * vocabulary(header)


def _output_rows(header: Header, shape: Shape) -> int:
    return max(shape.outputs, _sequences(header, shape))


def vocabulary(header: Header) -> int:
    """Tokens that the model knows; 0: not said."""
    embedding = header.tensors.get("token_embd.weight")
    if embedding is not None and len(embedding.shape) == 2:
        return embedding.shape[1]
    return _count(header, "vocab_size")


def _count(header: Header, key: str, layer: int | None = None) -> int:
    """A count of the metadata, of one layer where there is one for each; 0: not said."""
    said = header.setting(key)
    if isinstance(said, list):
        if layer is None:
            return 0
        said = said[layer] if layer < len(said) else 0
    return said if isinstance(said, int) and 0 < said < 2**31 else 0


def _mib(size: float) -> str:
    return f"{size / 2**20:,.0f} MiB"
