"""Rows without meaning, which make a step faster and nothing else."""

import numpy as np
import pytest

from services.llama.interface import Chunk
from services.llama.runtime import loading
from services.llama.runtime.batch import MOST_PADDING, Batch, padding
from services.llama.runtime.llama import LlamaRuntime
from services.llama.runtime.loading import RuntimeOptions
from tests.llama.real_kit import MODEL


def test_only_what_pays_is_filled_up():
    added = {rows: padding(rows) for rows in range(1, 600)}
    last_missing = dict.fromkeys(range(3, 600, 4), 1)
    assert {r: n for r, n in added.items() if n} == last_missing | {13: 3, 14: 2}
    assert max(added.values()) <= MOST_PADDING


def chunks(count: int) -> list[Chunk]:
    return [Chunk(slot, 7, [slot + 100], outputs=1) for slot in range(count)]


def wants(batch: Batch) -> list[int]:
    return [batch.struct.logits[at] for at in range(batch.struct.n_tokens)]


def test_padding_is_of_its_own_slot_and_makes_whole_tiles_of_logits_too():
    batch = Batch(32, 32, padding_slot=40)
    rows = batch.fill(chunks(14))
    assert rows == [range(at, at + 1) for at in range(14)]
    assert (batch.struct.n_tokens, batch.padded) == (16, 2)
    added = [(int(batch.struct.seq_id[at][0]), int(batch.struct.pos[at])) for at in (14, 15)]
    assert added == [(40, 0), (40, 1)]
    assert wants(batch) == [1] * 16
    batch.strip()
    assert (batch.struct.n_tokens, batch.padded) == (14, 0)


def test_padding_asks_for_no_logits_beyond_their_bound_or_beside_a_prompt():
    batch = Batch(32, 15, padding_slot=40)
    batch.fill(chunks(14))
    assert wants(batch) == [1] * 14 + [0, 0]
    batch.fill([Chunk(0, 0, list(range(14)), outputs=1)])
    assert wants(batch) == [0] * 13 + [1, 0, 0]


@pytest.mark.parametrize(("size", "slot"), [(14, 40), (32, None)])
def test_there_is_none_without_room_or_without_a_slot(size: int, slot: int | None):
    batch = Batch(size, 32, slot)
    batch.fill(chunks(14))
    assert (batch.struct.n_tokens, batch.padded) == (14, 0)


def logits(monkeypatch: pytest.MonkeyPatch, *, padded: bool, cells: int) -> np.ndarray:
    """Of 14 sequences that fill as many of the cells, in two steps."""
    monkeypatch.setattr(loading, "padded", lambda model, options: padded)
    options = RuntimeOptions(
        cells=cells, parallel=14, idle=0, batch_size=256, ubatch_size=256, outputs=16, threads=1
    )
    runtime = LlamaRuntime(MODEL, options)
    try:
        assert runtime.cells == 256
        each = cells // 14
        runtime.decode([Chunk(slot, 0, [slot + 20] * (each - 1)) for slot in range(14)])
        rows = runtime.decode([Chunk(slot, each - 1, [slot + 60], 1) for slot in range(14)])
        return np.array([row[0].copy() for row in rows])
    finally:
        runtime.close()


@pytest.mark.real
@pytest.mark.parametrize("cells", [70, 256])
def test_a_padded_step_gives_what_the_others_do(monkeypatch, cells: int):
    # With 252 of 256 cells in use there is room for two rows more, and none is left over.
    plain = logits(monkeypatch, padded=False, cells=cells)
    filled = logits(monkeypatch, padded=True, cells=cells)
    np.testing.assert_allclose(filled, plain, atol=1e-2)


@pytest.mark.real
def test_a_cache_that_is_full_to_the_brim_is_decoded_without(monkeypatch):
    monkeypatch.setattr(loading, "padded", lambda model, options: True)
    options = RuntimeOptions(
        cells=256, parallel=3, idle=0, batch_size=256, ubatch_size=256, outputs=16, threads=1
    )
    runtime = LlamaRuntime(MODEL, options)
    try:
        runtime.decode(
            [Chunk(slot, 0, [slot + 20] * count) for slot, count in enumerate((85, 84, 84))]
        )
        rows = runtime.decode(
            [Chunk(slot, start, [9], 1) for slot, start in enumerate((85, 84, 84))]
        )
        assert [len(row) for row in rows] == [1, 1, 1]
    finally:
        runtime.close()
