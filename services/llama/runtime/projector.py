"""What turns images and sounds into vectors of a model: its projector, through libmtmd.

Around an image libmtmd writes the tokens that the model was trained with, and may cut it in pieces
with tokens between them. Reading (decoding a file, making it the size that the model wants) is safe
from any thread; encoding is for one at a time.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from llama_cpp import llama_cpp as raw
from llama_cpp import mtmd_cpp as mtmd

from services.llama.interface import Vectors
from services.llama.media.layout import Shape
from services.llama.media.problem import MediaError
from services.llama.runtime import openmp
from services.llama.runtime.loading import capture
from services.worker.backend import StartupError

# libmtmd gives what it cannot read to ffmpeg, as a video: not to be found in here.
_NO_FFMPEG = b"/dev/null"
# Of what is encoded at the start, to see whether it can be: pixels, and about a second.
_TRIED_SIDE, _TRIED_SAMPLES = 64, 16_000
_callback = raw.llama_log_callback(capture)

# A content in order: tokens, or what an image, a piece of one, or a sound takes.
Part = list[int] | Shape


@dataclass(frozen=True, slots=True)
class ProjectorOptions:
    """How a projector is loaded."""

    path: Path
    threads: int
    gpu: bool = False
    # Most cells that can be evaluated together.
    together: int = 512


class Projector:
    """One projector for one model, which must outlive it."""

    def __init__(self, options: ProjectorOptions, model: Any) -> None:
        """`model`: the llama_model. Raises StartupError, one line."""
        mtmd.mtmd_helper_log_set(_callback, ctypes.c_void_p(0))
        params = mtmd.mtmd_context_params_default()
        params.use_gpu = options.gpu
        params.n_threads = options.threads
        params.print_timings = False
        # Beside the model's own memory, and before the first request needs it.
        params.warmup = True
        capture.errors.clear()
        self._context: Any = mtmd.mtmd_init_from_file(os.fsencode(options.path), model, params)
        if not self._context:
            why = capture.last_error().removeprefix("error: ")
            raise StartupError(f"--mmproj: {options.path}: not for this model: {why}")
        self._width = int(raw.llama_model_n_embd_inp(model))
        self._grid = bool(mtmd.mtmd_decode_use_mrope(self._context))
        self._together = options.together
        self.images = bool(mtmd.mtmd_support_vision(self._context))
        """Whether it takes images."""
        self.sounds = bool(mtmd.mtmd_support_audio(self._context))
        """Whether it takes sounds."""

    def close(self) -> None:
        """Frees it; nothing may be called after it."""
        if self._context:
            mtmd.mtmd_free(self._context)
            self._context = None

    def read(self, data: bytes) -> list[Part]:
        """What a checked file will be to the model, without computing it. Raises MediaError."""
        with self._chunks(data) as chunks:
            return [self._part(chunk) for chunk in chunks]

    def encode(self, data: bytes) -> list[Vectors]:
        """The vectors of each Shape that `read` tells of. Takes seconds. Raises MediaError."""
        found = []
        with self._chunks(data) as chunks:
            for chunk in chunks:
                if mtmd.mtmd_input_chunk_get_type(chunk) == mtmd.MTMD_INPUT_CHUNK_TYPE_TEXT:
                    continue
                if mtmd.mtmd_encode_chunk(self._context, chunk):
                    raise MediaError(f"it cannot be encoded: {capture.last_error()}")
                cells = mtmd.mtmd_input_chunk_get_n_tokens(chunk)
                output = mtmd.mtmd_get_output_embd(self._context)
                found.append(np.ctypeslib.as_array(output, (cells, self._width)).copy())
        openmp.rest()
        return found

    def try_out(self) -> None:
        """Encodes a grey image and some silence. Raises StartupError.

        What a wrong file makes of them, up to the end of the process, must not wait for a request.
        """
        try:
            if self.images:
                count = 3 * _TRIED_SIDE**2
                grey = (ctypes.c_uint8 * count)(*[127] * count)
                self._try(mtmd.mtmd_bitmap_init(_TRIED_SIDE, _TRIED_SIDE, grey))
            if self.sounds:
                silence = (ctypes.c_float * _TRIED_SAMPLES)()
                self._try(mtmd.mtmd_bitmap_init_from_audio(_TRIED_SAMPLES, silence))
        except MediaError as error:
            raise StartupError(f"--mmproj: {error}") from None

    def _try(self, bitmap: Any) -> None:
        try:
            with self._tokenized(bitmap) as chunks:
                for chunk in chunks:
                    if isinstance(self._part(chunk), Shape):
                        mtmd.mtmd_encode_chunk(self._context, chunk)
        finally:
            mtmd.mtmd_bitmap_free(bitmap)
            openmp.rest()

    @contextmanager
    def _chunks(self, data: bytes) -> Iterator[list[Any]]:
        options = mtmd.mtmd_helper_init_opt_default()
        options.video_params.ffmpeg_bin_dir = _NO_FFMPEG
        buffer = ctypes.cast(ctypes.c_char_p(data), ctypes.POINTER(ctypes.c_uint8))
        made = mtmd.mtmd_helper_bitmap_init_from_buf_wrapper(
            self._context, buffer, len(data), False, options
        )
        if not made.bitmap:
            raise MediaError("the file is broken")
        try:
            with self._tokenized(made.bitmap) as chunks:
                yield chunks
        finally:
            mtmd.mtmd_bitmap_free(made.bitmap)

    @contextmanager
    def _tokenized(self, bitmap: Any) -> Iterator[list[Any]]:
        marker = mtmd.mtmd_get_marker(self._context)
        assert marker is not None
        text = mtmd.mtmd_input_text(marker, len(marker), False, True)
        found = mtmd.mtmd_input_chunks_init()
        try:
            bitmaps = (ctypes.c_void_p * 1)(bitmap)
            if mtmd.mtmd_tokenize(self._context, found, ctypes.byref(text), bitmaps, 1):
                raise MediaError(f"it cannot be read: {capture.last_error()}")
            count = mtmd.mtmd_input_chunks_size(found)
            yield [mtmd.mtmd_input_chunks_get(found, at) for at in range(count)]
        finally:
            mtmd.mtmd_input_chunks_free(found)

    def _part(self, chunk: Any) -> Part:
        count = int(mtmd.mtmd_input_chunk_get_n_tokens(chunk))
        kind = mtmd.mtmd_input_chunk_get_type(chunk)
        if kind == mtmd.MTMD_INPUT_CHUNK_TYPE_TEXT:
            tokens = mtmd.mtmd_input_chunk_get_tokens_text(chunk, ctypes.byref(ctypes.c_size_t()))
            return list(tokens[:count]) if tokens is not None else []
        together = bool(mtmd.mtmd_decode_use_non_causal(self._context, chunk))
        if together and count > self._together:
            raise MediaError(
                f"it takes {count} cells that must be evaluated together, and here {self._together} "
                "can be (--ubatch-size)"
            )
        grid = None
        if self._grid and kind == mtmd.MTMD_INPUT_CHUNK_TYPE_IMAGE:
            grid = _grid(mtmd.mtmd_input_chunk_get_tokens_image(chunk), count)
        return Shape(count, int(mtmd.mtmd_input_chunk_get_n_pos(chunk)), grid, together)


def _grid(tokens: Any, count: int) -> Any:
    """Time, row and column of every cell; None where they follow each other like tokens."""
    found = (mtmd.mtmd_decoder_pos * count)()
    mtmd.mtmd_helper_image_get_decoder_pos(tokens, 0, found)
    fields = np.ctypeslib.as_array(ctypes.cast(found, ctypes.POINTER(ctypes.c_uint32)), (count, 4))
    time, column, row = fields[:, 0], fields[:, 1], fields[:, 2]
    if np.array_equal(time, np.arange(count)) and np.array_equal(time, row):
        return None
    return np.stack((time, row, column)).astype(np.int32)
