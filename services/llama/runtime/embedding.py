"""A llama.cpp context for embeddings and rerank, of a chat model's weights or of a model's own."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import structlog
from llama_cpp import llama_cpp as raw

from services.llama.embed_inputs import Joining
from services.llama.interface import DecodeError
from services.llama.pooling import EmbeddingKind, Part, Pooling, Rows
from services.llama.runtime import bindings, openmp
from services.llama.runtime.bindings import pointer_to, pointers_to_each
from services.llama.runtime.llama import LlamaRuntime
from services.llama.runtime.loading import (
    RuntimeOptions,
    capture,
    context_params,
    initialise,
    load_model,
)
from services.llama.runtime.vocabulary import LlamaVocabulary
from services.worker.backend import StartupError

# Inputs of one batch. More gain nothing at these batch sizes.
_SLOTS = 64
# The same of models that keep a state per sequence, which may have tens of megabytes.
_RECURRENT_SLOTS = 4
# llama.cpp computes the logits of every token of an embedding context too, wanted or not: this
# bounds their buffer, of which there are two.
_LOGITS_BYTES = 64 * 2**20
_LEAST_STEP = 32

_log = structlog.get_logger()


class EmbeddingModel:
    """A model that only embeds or ranks: in the place of LlamaRuntime, without an engine's part."""

    def __init__(self, path: Path, options: RuntimeOptions) -> None:
        """Loads it. Raises StartupError with one line."""
        variant = initialise(options.cpu_variant)
        if options.adapters:
            raise StartupError(f"{path}: adapters are for models that generate")
        self.options = options
        self.model: Any = load_model(path, options, generates=False)
        if raw.llama_model_has_encoder(self.model) and raw.llama_model_has_decoder(self.model):
            self.close()
            raise StartupError(f"{path}: encoder-decoder models are not supported")
        if raw.llama_model_is_diffusion(self.model):
            self.close()
            raise StartupError(f"{path}: diffusion models are not supported")
        self.vocabulary = LlamaVocabulary(self.model)
        _log.info("embedding model loaded", cpu_variant=variant, threads=options.threads)

    @property
    def cells(self) -> int:
        """Longest input, as asked for."""
        return self.options.cells

    def close(self) -> None:
        """Frees the model; contexts of it must be closed before."""
        if self.model is not None:
            raw.llama_model_free(self.model)
            self.model = None


def dimensions(loaded: LlamaRuntime | EmbeddingModel) -> int:
    """Width of the vectors."""
    return int(raw.llama_model_n_embd_out(loaded.model))


def joining(loaded: LlamaRuntime | EmbeddingModel) -> Joining:
    """What the model wants around texts; a pair without a template as llama-server joins it."""
    model = loaded.model
    vocab = raw.llama_model_get_vocab(model)
    bos = _present(raw.llama_vocab_bos(vocab))
    sep = _present(raw.llama_vocab_sep(vocab))
    adds_bos = bool(raw.llama_vocab_get_add_bos(vocab))
    of_type = raw.llama_vocab_type(vocab)
    # What the tokenizer itself puts around nothing.
    around = _around_nothing(vocab)
    begins = adds_bos or of_type == raw.LLAMA_VOCAB_TYPE_WPM
    before = around[:1] if begins and around[:1] == bos else ()
    end = _present(raw.llama_vocab_eos(vocab)) or sep
    pair_end = end if raw.llama_vocab_get_add_eos(vocab) else ()
    template = raw.llama_model_chat_template(model, b"rerank")
    return Joining(
        before=before,
        after=around[len(before) :],
        pair_begin=bos if adds_bos else (),
        between=pair_end + (sep if raw.llama_vocab_get_add_sep(vocab) else ()),
        pair_end=pair_end,
        template=template.decode("utf-8", "replace") if template else None,
        covers=of_type in (raw.LLAMA_VOCAB_TYPE_SPM, raw.LLAMA_VOCAB_TYPE_BPE),
    )


class LlamaEmbedding:
    """See services.llama.pooling.EmbeddingRuntime for the meaning of it all.

    Hidden states come out token by token and are pooled by the caller: so a causal model's long
    input can be evaluated in parts, which llama.cpp's own pooling cannot. Only rerankers' classes
    are computed in the graph.
    """

    def __init__(
        self,
        loaded: LlamaRuntime | EmbeddingModel,
        kind: EmbeddingKind,
        options: RuntimeOptions,
        context: int,
    ) -> None:
        """`context` is the longest input. The weights are those of `loaded`, which must outlive it.

        Raises StartupError with one line.
        """
        self._model = loaded.model
        self.pooling = kind.pooling
        self.context = context
        self._encodes = bool(raw.llama_model_has_encoder(self._model))
        self.whole = kind.whole or self._encodes
        one_each = raw.llama_model_is_recurrent(self._model) or raw.llama_model_is_hybrid(
            self._model
        )
        self.step_size = self._choose_step(options, loaded.vocabulary.size)
        # llama.cpp aborts where a batch cannot hold a token of each.
        self.slots = min(_RECURRENT_SLOTS if one_each else _SLOTS, self.step_size)
        self.batch_size = max(self.step_size, context) if self.whole else self.step_size
        self._width = int(
            raw.llama_model_n_cls_out(self._model)
            if self.pooling is Pooling.RANK
            else raw.llama_model_n_embd_out(self._model)
        )
        self._context = self._make_context(options)
        # None for encoders such as BERT, which keep no cells.
        self._memory = raw.llama_get_memory(self._context)
        if self._memory is None and not self.whole:
            self.close()
            raise StartupError("the model keeps no cache and does not say how it attends")
        self._warm_up(loaded.vocabulary)

    def _choose_step(self, options: RuntimeOptions, vocabulary: int) -> int:
        step = min(options.batch_size, options.ubatch_size)
        if self.whole or options.gpu_layers:
            return step
        return min(step, max(_LEAST_STEP, _LOGITS_BYTES // (4 * vocabulary)))

    def _make_context(self, options: RuntimeOptions) -> Any:
        params = context_params(options)
        # Room for the longest input that is between its parts, and a step of short ones.
        params.n_ctx = self.batch_size if self.whole else self.context + self.step_size
        params.n_batch = params.n_ubatch = self.batch_size
        params.n_seq_max = self.slots
        # Every token's state comes out.
        params.n_outputs_max = params.n_batch
        params.embeddings = True
        params.pooling_type = (
            raw.LLAMA_POOLING_TYPE_RANK
            if self.pooling is Pooling.RANK
            else raw.LLAMA_POOLING_TYPE_NONE
        )
        capture.errors.clear()
        context = raw.llama_init_from_model(self._model, params)
        if not context:
            reason = capture.last_error() or "not enough memory?"
            raise StartupError(
                f"llama.cpp cannot make a context for inputs of {self.context} tokens: {reason}"
            )
        return context

    def evaluate(self, parts: Sequence[Part]) -> list[Rows]:
        """See the interface."""
        total = sum(len(part.tokens) for part in parts)
        if not 0 < total <= self.batch_size:
            raise ValueError(f"{total} tokens for a batch of 1 to {self.batch_size}")
        batch = _Batch(parts, total)
        run = raw.llama_encode if self._memory is None or self._encodes else bindings.decode
        code = run(self._context, batch.struct)
        openmp.rest()
        if code != 0:
            raise DecodeError(f"llama.cpp returned {code}: {capture.last_error()}")
        if self.pooling is Pooling.RANK:
            return [self._scores(part.slot) for part in parts]
        pointer = raw.llama_get_embeddings(self._context)
        if not pointer:
            raise DecodeError("the model gives no embeddings")
        states = np.ctypeslib.as_array(pointer, (total, self._width))
        ends = np.cumsum([len(part.tokens) for part in parts])
        return np.split(states, ends[:-1])

    def release(self, slot: int) -> None:
        """See the interface."""
        if self._memory is not None:
            bindings.memory_seq_rm(self._memory, slot, -1, -1)

    def reset(self) -> None:
        """See the interface."""
        if self._memory is not None:
            raw.llama_memory_clear(self._memory, False)

    def close(self) -> None:
        """See the interface."""
        if self._context is not None:
            raw.llama_free(self._context)
            self._context = None

    def _scores(self, slot: int) -> Rows:
        pointer = raw.llama_get_embeddings_seq(self._context, slot)
        if not pointer:
            raise DecodeError("the model gives no scores")
        return np.ctypeslib.as_array(pointer, (1, self._width))

    def _warm_up(self, vocabulary: LlamaVocabulary) -> None:
        """The first evaluation allocates, and says whether the model can do it at all."""
        token = vocabulary.bos or vocabulary.eos or 0
        try:
            self.evaluate([Part(0, 0, np.array([token], np.int32))])
        except DecodeError as error:
            self.close()
            raise StartupError(f"the model gives no embeddings: {error}") from None
        self.release(0)


class _Batch:
    """llama_batch over arrays of its own, which live as long as it does."""

    def __init__(self, parts: Sequence[Part], total: int) -> None:
        lengths = [len(part.tokens) for part in parts]
        self._tokens = np.concatenate([part.tokens for part in parts]).astype(np.int32)
        self._positions = np.concatenate(
            [np.arange(part.start, part.start + len(part.tokens), dtype=np.int32) for part in parts]
        )
        self._slots = np.repeat(np.array([part.slot for part in parts], np.int32), lengths)
        self._counts = np.ones(total, np.int32)
        self._wants = np.ones(total, np.int8)
        self._pointers = pointers_to_each(self._slots)
        self.struct = raw.llama_batch()
        self.struct.n_tokens = total
        self.struct.token = pointer_to(self._tokens, ctypes.c_int32)
        self.struct.pos = pointer_to(self._positions, ctypes.c_int32)
        self.struct.n_seq_id = pointer_to(self._counts, ctypes.c_int32)
        self.struct.seq_id = pointer_to(self._pointers, ctypes.POINTER(ctypes.c_int32))
        self.struct.logits = pointer_to(self._wants, ctypes.c_int8)


def _present(token: int) -> tuple[int, ...]:
    return (token,) if token >= 0 else ()


def _around_nothing(vocab: Any) -> tuple[int, ...]:
    tokens = (raw.llama_token * 8)()
    count = raw.llama_tokenize(vocab, b"", 0, tokens, 8, True, False)
    return tuple(tokens[: max(0, count)])
