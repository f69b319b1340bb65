"""Where runs lie: positions, cuts and reaches, against a list that is written out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.llama.media.layout import PLAIN, Layout, Run, Shape, stand_ins

GRID = np.array([[0] * 6, [0, 0, 0, 1, 1, 1], [0, 1, 2, 0, 1, 2]], np.int32)
SHAPES = st.sampled_from(
    [Shape(1, 1), Shape(5, 5), Shape(4, 4, together=True), Shape(6, 3, GRID)],
)


@st.composite
def prompts(draw: st.DrawFn) -> tuple[Layout, list[tuple[int, Shape | None]]]:
    """A layout, and for every token its position and the run it is of."""
    runs: list[Run] = []
    cells: list[tuple[int, Shape | None]] = []
    position = 0
    for shape in draw(st.lists(st.none() | SHAPES, max_size=8)):
        if shape is None:
            words = draw(st.integers(1, 4))
            cells += [(position + at, None) for at in range(words)]
            position += words
            continue
        runs.append(Run(len(cells), shape, (b"x", 0), np.zeros((shape.cells, 2), np.float32)))
        grid = shape.grid is not None
        cells += [(position if grid else position + at, shape) for at in range(shape.cells)]
        position += shape.positions
    return Layout(runs), [*cells, (position, None)]


@given(prompts())
def test_every_token_has_its_position(made):
    layout, cells = made
    assert [layout.position(at) for at in range(len(cells))] == [p for p, _ in cells]


@given(prompts())
def test_cuts_keep_what_belongs_together(made):
    layout, cells = made
    for at in range(len(cells)):
        cut = layout.cut(at)
        run = layout.at(at)
        if run is None or run.shape.divisible or run.start == at:
            assert cut == at
        else:
            assert cut == run.start < at
        assert layout.cut(cut) == cut


@given(prompts())
def test_a_reach_is_of_one_kind(made):
    layout, cells = made
    at = 0
    while at < len(cells):
        reach = layout.reach(at, len(cells))
        assert reach > 0
        run = layout.at(at)
        assert all(layout.at(index) is run for index in range(at, at + reach))
        assert layout.together(at) == (run is not None and run.shape.together)
        assert (layout.chunk(0, at, reach) is None) == (run is None)
        at += reach
    assert at == len(cells)


def test_the_cells_of_a_grid_in_pieces():
    vectors = np.arange(12, dtype=np.float32).reshape(6, 2)
    layout = Layout([Run(3, Shape(6, 3, GRID), (b"x", 0), vectors)])
    chunk: Any = layout.chunk(7, 5, 3)
    assert (chunk.slot, chunk.start) == (7, 3)
    assert chunk.embedded.vectors.tolist() == [[4, 5], [6, 7], [8, 9]]
    assert chunk.embedded.positions.tolist() == [[3] * 3, [3, 4, 4], [5, 3, 4], [0] * 3]
    assert layout.position(9) == 6


def test_stand_ins_are_of_one_content_and_piece():
    one = stand_ins(b"one", 0, 300)
    assert len(set(one)) == 300
    assert max(one) < 0
    assert one == stand_ins(b"one", 0, 300)
    assert not set(one) & {*stand_ins(b"one", 1, 300), *stand_ins(b"other", 0, 300)}


def test_a_prompt_of_tokens_is_nothing_special():
    assert not PLAIN
    assert (PLAIN.position(9), PLAIN.cut(9), PLAIN.reach(3, 9)) == (9, 9, 6)
    assert PLAIN.at(3) is None


def test_vectors_are_of_the_runs_in_order():
    layout = Layout([Run(0, Shape(1, 1)), Run(4, Shape(2, 2))])
    vectors = [np.zeros((1, 2), np.float32), np.ones((2, 2), np.float32)]
    assert layout.with_vectors(vectors).runs[1].vectors is vectors[1]
    with pytest.raises(ValueError, match="zip"):
        layout.with_vectors(vectors[:1])
