"""From the settings, a model's header and what the machine has to how the model is loaded."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from services.llama import host, identity, sizing
from services.llama.config import LlamaSettings
from services.llama.runtime import adapters
from services.llama.runtime.gguf import Header
from services.llama.runtime.loading import RopeOptions, RuntimeOptions

# Ended sequences, beyond one for each that runs, whose cells may be kept for prompts to come. Each is
# a row more in llama.cpp's buffer of logits, 0.6 MiB for 150,000 tokens: on CPUs, which keep hardly
# any cells for others, more are not worth it.
IDLE_SLOTS = 4
_IDLE_SLOTS_GPU = 24
# Rows of a batch, decodes included, up to which drafts are worth evaluating: on CPUs a batch of
# more rows takes about as many times as long.
DRAFTS = 16
# Idle cells that are kept on CPUs, times the sequences that run, where what is given up is lost:
# attention looks at every cell in use, whosever it is. Measured: 1,000 idle cells make a step of 8
# sequences 5 % longer. Where it can be parked none are kept.
KEPT = 3072
# Unasked for, parked states may have this share of the memory that is left, and no more bytes.
_PARKED_SHARE = 0.25
_MOST_PARKED = 2 * 2**30
# Positions of one decode whose logits may be wanted: prompts' logprobs come in such pieces.
_OUTPUTS = 64


@dataclass(frozen=True, slots=True)
class Plan:
    """What is loaded and how."""

    # Its identity covers adapters and a position encoding of the operator's, its size adapters.
    header: Header
    options: RuntimeOptions
    # How many times the trained context a sequence may be long.
    stretch: float
    # Bytes of host memory for KV states that are parked.
    parked: int

    @property
    def kept(self) -> int | None:
        """Idle cells that are kept, times the sequences that run; None: all there is room for."""
        if self.options.gpu_layers:
            return None
        return 0 if self.parked else KEPT

    def context(self, cells: int) -> int:
        """The longest sequence in a cache of so many cells, in tokens."""
        return sizing.usable_context(self.header, cells, self.stretch)


def make(settings: LlamaSettings, header: Header, beside: float = 0) -> Plan:
    """Reads adapters' headers and the machine's limits.

    `beside`: bytes that something else is going to take. Raises StartupError, one line.
    """
    files = [
        adapters.AdapterFile(adapter.name, adapter.path, adapter.scale)
        for adapter in settings.adapters()
    ]
    checked = [(file, adapters.check(file, header)) for file in files]
    extra = sum(file.size for _, file in checked)
    stretch = sizing.stretch(header, settings.rope_scale, settings.yarn_orig_ctx)
    idle = _IDLE_SLOTS_GPU if settings.gpu_layers else IDLE_SLOTS
    memory = host.available_memory()
    if memory is not None:
        memory -= math.ceil(beside)
    shape = sizing.choose(
        header,
        sizing.Shape(
            cells=settings.ctx_size,
            slots=settings.parallel,
            outputs=_OUTPUTS,
            idle=idle,
            ubatch=settings.ubatch_size,
            type_k=settings.cache_type_k,
            type_v=settings.cache_type_v,
            flash_attention=settings.flash_attention != "off",
            swa_full=settings.swa_full,
            stretch=stretch,
        ),
        # What of it goes to a GPU's memory is not known here.
        memory=None if settings.gpu_layers else memory,
        adapters=extra,
    )
    left = None if memory is None else memory - sizing.needs(header, shape, extra).total
    options = replace(
        runtime_options(
            settings,
            cells=shape.cells,
            parallel=shape.slots,
            idle=shape.slots + idle,
            outputs=_outputs(settings.batch_size, shape.slots),
            batch_size=max(settings.batch_size, shape.slots),
            ubatch_size=settings.ubatch_size,
        ),
        cache_type_k=settings.cache_type_k,
        cache_type_v=settings.cache_type_v,
        swa_full=settings.swa_full,
        rope=_rope(settings),
        adapters=tuple(files),
    )
    # Workers whose positions are encoded differently answer differently.
    rope = "" if options.rope == RopeOptions() else repr(options.rope)
    its = identity.extended(adapters.identity(header, checked), rope)
    whole = replace(header, identity=its, size=header.size + extra)
    return Plan(whole, options, stretch, _parked(settings, left))


def runtime_options(
    settings: LlamaSettings,
    *,
    cells: int,
    parallel: int,
    idle: int,
    outputs: int,
    batch_size: int,
    ubatch_size: int,
) -> RuntimeOptions:
    """How any model is loaded on this machine, a draft model too; fields as in RuntimeOptions."""
    return RuntimeOptions(
        cells=cells,
        parallel=parallel,
        idle=idle,
        outputs=outputs,
        batch_size=batch_size,
        ubatch_size=ubatch_size,
        threads=settings.threads or host.usable_cores(),
        gpu_layers=settings.gpu_layers,
        mmap=settings.mmap,
        mlock=settings.mlock,
        cpu_variant=settings.cpu_variant,
        split_mode=settings.split_mode,
        numa=settings.numa,
        flash_attention=settings.flash_attention,
        main_gpu=settings.main_gpu,
        tensor_split=settings.tensor_split,
    )


def _parked(settings: LlamaSettings, left: float | None) -> int:
    if settings.cache_ram is not None:
        return settings.cache_ram * 2**20
    share = _MOST_PARKED if left is None else int(max(0.0, left) * _PARKED_SHARE)
    return min(_MOST_PARKED, share)


def _outputs(batch_size: int, parallel: int) -> int:
    return min(max(batch_size, parallel), max(_OUTPUTS, parallel + DRAFTS))


def _rope(settings: LlamaSettings) -> RopeOptions:
    return RopeOptions(
        scaling=settings.rope_scaling,
        factor=settings.rope_scale,
        base=settings.rope_freq_base,
        original_context=settings.yarn_orig_ctx,
        extrapolation=settings.yarn_ext_factor,
        attention=settings.yarn_attn_factor,
        beta_fast=settings.yarn_beta_fast,
        beta_slow=settings.yarn_beta_slow,
    )
