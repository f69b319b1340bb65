"""Three kinds of images: cells like tokens, cells that see each other, cells in rows and columns.

What is computed is compared with what libmtmd's own helper computes for the same prompt.
"""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from llama_cpp import llama_cpp as raw
from llama_cpp import mtmd_cpp as mtmd

from services.llama.interface import Chunk, NoRoomError
from services.llama.media.layout import Layout, Run, Shape, stand_ins
from services.llama.runtime.llama import LlamaRuntime
from services.llama.runtime.loading import RuntimeOptions
from services.llama.runtime.projector import Projector, ProjectorOptions
from tests.llama.media import files, projectors
from tests.llama.media.kit import chat, first_logprobs, usage
from tests.llama.real_kit import MODEL, collect

pytestmark = pytest.mark.real

OPTIONS = RuntimeOptions(
    cells=1024, parallel=4, idle=4, batch_size=512, ubatch_size=512, outputs=16, threads=1
)
# 3 x 5 cells where images have rows and columns.
IMAGE = files.png(140, 84, (40, 90, 200))
KINDS = ("alike", "together", "grid")


@pytest.fixture(scope="session")
def kinds(tmp_path_factory):
    """Of each kind: the model and the projector."""
    at = tmp_path_factory.mktemp("kinds")
    model = projectors.write_grid_model(at / "grid-model.gguf")
    grid = projectors.write_grid(at / "grid.gguf", width=projectors.GRID_WIDTH)
    return {
        "alike": (MODEL, projectors.write(at / "alike.gguf")),
        "together": (MODEL, projectors.write_together(at / "together.gguf")),
        "grid": (model, grid),
    }


class Loaded:
    def __init__(self, model, mmproj) -> None:
        self.runtime = LlamaRuntime(model, OPTIONS)
        self.projector = Projector(ProjectorOptions(mmproj, 1), self.runtime.model)

    def text(self, text: str) -> list[int]:
        return self.runtime.vocabulary.tokenize(text, parse_special=False)

    def layout(self, before: list[int], after: list[int]) -> tuple[list[int], Layout]:
        """The image between two texts."""
        tokens, runs = list(before), []
        for part in self.projector.read(IMAGE):
            if isinstance(part, Shape):
                runs.append(Run(len(tokens), part, (b"image", 0)))
                tokens += stand_ins(b"image", 0, part.cells)
            else:
                tokens += part
        return tokens + after, Layout(runs).with_vectors(self.projector.encode(IMAGE))

    def evaluate(self, slot: int, tokens: list[int], layout: Layout, step: int, at: int = 0):
        """The logits after the last token, in steps of at most so many."""
        rows = []
        while at < len(tokens):
            reach = layout.reach(at, len(tokens))
            count = reach if layout.together(at) else min(step, reach)
            chunk = layout.chunk(slot, at, count) or Chunk(
                slot, layout.position(at), tokens[at : at + count], outputs=1
            )
            (rows,) = self.runtime.decode([chunk])
            at += count
        return rows[-1].copy()

    def reference(self, slot: int, before: list[int], after: list[int]):
        """As libmtmd's helper evaluates it."""
        context, projector = self.runtime._context, self.projector._context
        position = len(before)
        self.runtime.decode([Chunk(slot, 0, before)])
        found = ctypes.c_int32(position)
        with self.projector._chunks(IMAGE) as chunks:
            for chunk in chunks:
                failed = mtmd.mtmd_helper_eval_chunk_single(
                    projector, context, chunk, position, slot, 512, False, ctypes.byref(found)
                )
                assert not failed
                position += mtmd.mtmd_input_chunk_get_n_pos(chunk)
        ((row,),) = self.runtime.decode([Chunk(slot, position, after, outputs=1)])
        return row.copy()

    def close(self) -> None:
        self.projector.close()
        self.runtime.close()


@pytest.fixture(params=KINDS)
def loaded(request, kinds):
    made = Loaded(*kinds[request.param])
    yield made
    made.close()


def close(one, other) -> bool:
    """But for what kernels lose in other batches, of logits that spread over more than 1."""
    return float(np.abs(one - other).max()) < 0.05 * float(other.std())


@pytest.mark.parametrize("step", [512, 5])
def test_what_is_computed_is_what_libmtmd_computes(loaded, step):
    before, after = loaded.text("Look at this:"), loaded.text("and tell what you see.")
    reference = loaded.reference(0, before, after)
    tokens, layout = loaded.layout(before, after)
    assert close(loaded.evaluate(1, tokens, layout, step), reference)
    blind = loaded.evaluate(2, before + after, Layout(), step)
    assert not close(blind, reference)


def test_a_prefix_with_an_image_is_shared_and_cut(loaded):
    tokens, layout = loaded.layout(loaded.text("Look:"), loaded.text("What is it, and where?"))
    whole = loaded.evaluate(0, tokens, layout, 512)
    cells = len(tokens) - 6
    loaded.runtime.copy(0, 1, layout.position(cells))
    assert close(loaded.evaluate(1, tokens, layout, 512, cells), whole)
    loaded.runtime.truncate(0, layout.position(cells))
    assert close(loaded.evaluate(0, tokens, layout, 512, cells), whole)
    begin = layout.cut(layout.runs[0].start + 2)
    loaded.runtime.truncate(0, layout.position(begin))
    assert close(loaded.evaluate(0, tokens, layout, 512, begin), whole)


def test_a_parked_image_is_put_back(loaded):
    tokens, layout = loaded.layout(loaded.text("Look:"), loaded.text("What is it, and where?"))
    whole = loaded.evaluate(0, tokens, layout, 512)
    state = loaded.runtime.save(0)
    loaded.runtime.reset()
    assert loaded.runtime.restore(3, state)
    cells = len(tokens) - 6
    loaded.runtime.truncate(3, layout.position(cells))
    assert close(loaded.evaluate(3, tokens, layout, 512, cells), whole)


def test_words_and_images_in_one_step(loaded):
    tokens, layout = loaded.layout(loaded.text("Look:"), loaded.text("What?"))
    alone = loaded.evaluate(0, tokens, layout, 512)
    words = loaded.text("Something else altogether.")
    run = layout.runs[0]
    loaded.runtime.decode([Chunk(1, 0, tokens[: run.start])])
    image = layout.chunk(1, run.start, run.shape.cells)
    rows = loaded.runtime.decode([image, Chunk(2, 0, words, outputs=1)])
    assert [len(some) for some in rows] == [0, 1]
    beside = rows[1][0].copy()
    assert close(loaded.evaluate(1, tokens, layout, 512, run.end), alone)
    assert close(loaded.evaluate(3, words, Layout(), 512), beside)


def test_nothing_is_left_of_a_step_for_which_there_is_no_room(loaded):
    tokens, layout = loaded.layout(loaded.text("Look:"), loaded.text("What?"))
    run = layout.runs[0]
    loaded.runtime.decode([Chunk(1, 0, tokens[: run.start])])
    image = layout.chunk(1, run.start, run.shape.cells)
    crowd = Chunk(2, 0, [1] * 512)
    loaded.runtime.decode([Chunk(0, 0, [1] * 510)])
    with pytest.raises(NoRoomError):
        loaded.runtime.decode([image, crowd])
    memory = raw.llama_get_memory(loaded.runtime._context)
    assert raw.llama_memory_seq_pos_max(memory, 1) == layout.position(run.start) - 1
    loaded.runtime.release(0)
    loaded.evaluate(1, tokens, layout, 512, run.start)


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_reused_says_the_same(serve, kinds, kind):
    model, mmproj = kinds[kind]
    settings = {"model": str(model), "mmproj": str(mmproj), "ctx_size": 1024, "parallel": 2}
    warm, cold = await serve(**settings), await serve(**settings, cache_ram=0)
    look = "Look at this picture with care, and then tell me what you think. " * 2
    await collect(warm, chat(look, IMAGE, "What is it?", max_tokens=2))
    asked = chat(look, IMAGE, "What is it? Where was it made, and when?")
    again, once = await collect(warm, asked), await collect(cold, asked)
    through = await collect(cold, chat(look, IMAGE, max_tokens=1))
    # As far as the two questions are one, which is behind the image.
    assert usage(again).cached_tokens > usage(through).prompt_tokens - 10
    assert usage(once).cached_tokens == 0
    ours, wanted = dict(first_logprobs(again)), dict(first_logprobs(once))
    common = ours.keys() & wanted.keys()
    assert len(common) >= 3
    assert all(abs(ours[token] - wanted[token]) < 0.1 for token in common)
