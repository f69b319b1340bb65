"""The draft model at work: follows the sequences that decode and guesses what comes next.

It has a cache of its own, so prefixes are shared and kept there as in the model's; a slot of it
holds a sequence's tokens and, behind them, those that were guessed. What of these did not come
out is cut off when the sequence is looked at again. Used on the engine's thread only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterable
from collections.abc import Sequence as Many
from dataclasses import dataclass, field

import numpy as np
import structlog

from services.llama.drafting.pace import MOST_GUESSED, Costs, Pace, Wish, lengths
from services.llama.interface import Chunk, Logits, NoRoomError, Runtime
from services.llama.kv.cache import KvCache
from services.llama.kv.ledger import union
from services.llama.scheduler import Work
from services.llama.sequence import Sequence

# Sequences that can be followed at once; more would leave no rows for drafts.
MOST_FOLLOWED = 16
# Tokens that the draft model evaluates in one step to catch up: running streams wait for it.
_CATCH_UP = 256
# Tokens to catch up with, for each that may still come, that are too many to begin.
_TOO_MANY = 32
# A guess of a lower probability ends the draft: it would mostly be wrong.
_SURE = 0.6
# Cells of ended sequences that are kept: attention looks at all of them.
_KEPT = 2048
# Batches in a row that the runtime may have no room for, although there are cells.
_REFUSALS = 8

_log = structlog.get_logger()


@dataclass(slots=True)
class _Follower:
    """What the draft model knows of a sequence."""

    pace: Pace = field(default_factory=Pace)
    # None: nothing.
    slot: int | None = None
    # Tokens of the sequence that the cache was told of, and cells in the slot.
    known: int = 0
    cells: int = 0
    # Tokens guessed behind the known ones; some of the first have cells.
    guessed: list[int] = field(default_factory=list)


@dataclass(slots=True)
class _Turn:
    """A sequence that gets a draft in this step."""

    sequence: Sequence
    follower: _Follower
    slot: int
    # How far to guess.
    length: int
    # The logits after its last token. None: the draft model has not caught up yet, or it is done.
    row: Logits | None = None

    @property
    def behind(self) -> int:
        """Known tokens that the draft model has not seen."""
        return self.follower.known - self.follower.cells


class Drafter:
    """Guesses for all sequences of an engine. Its failures cost drafts and nothing else."""

    def __init__(
        self, runtime: Runtime, vocabulary: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`runtime` is partial, and its first `vocabulary` tokens are also the model's."""
        assert runtime.partial, "guesses must be taken back"
        self._runtime = runtime
        self._vocabulary = vocabulary
        self._ends = runtime.vocabulary.ends
        self._clock = clock
        self._kv = KvCache(runtime)
        self._followers: dict[int, _Follower] = {}
        self._costs = Costs()
        # Whose drafts the last plan may hold, by sequence.
        self._offered: dict[int, Pace] = {}
        # When that was; None: it has been evaluated.
        self._planned: float | None = None
        self._refusals = 0
        self._steps = 0
        # The draft model has failed.
        self.off = False

    def __repr__(self) -> str:
        state = "off" if self.off else f"following {len(self._followers)}"
        return f"<Drafter {state}, {self._kv}>"

    def guess(self, turn: Iterable[Sequence], rows: int, running: Container[int]) -> None:
        """Offers drafts to those of the batch that have none, together with theirs at most `rows`.

        `running` are the ids of all that run: what is known of others is given up.
        """
        self._offered.clear()
        if self.off:
            return
        try:
            self._forget_others(running)
            self._draft(list(turn), rows)
        except Exception as error:  # noqa: BLE001 -- nobody depends on drafts
            _log.error("the draft model failed and is not used any more", exc_info=error)
            self.off = True
            self._followers.clear()
        self._planned = self._clock()

    def evaluated(self, work: Many[tuple[Sequence, Work]]) -> None:
        """The batch that was planned last has gone through."""
        planned, self._planned = self._planned, None
        if planned is not None and all(item.count == 1 for _, item in work):
            self._costs.step(self._clock() - planned)
        for sequence, item in work:
            pace = self._offered.pop(sequence.id, None)
            if pace is not None and not item.draft:
                pace.refused()  # there was no room to check it

    def check(self) -> None:
        """Asserts what must always hold between two steps; for tests."""
        followed = [f for f in self._followers.values() if f.slot is not None]
        assert self._kv.slots[0] == len(followed) == len({f.slot for f in followed})
        for follower in followed:
            assert 0 <= follower.cells <= follower.known + len(follower.guessed)

    def _draft(self, turn: list[Sequence], rows: int) -> None:
        self._steps += 1
        rows = min(rows - sum(len(s.draft) for s in turn), self._runtime.outputs)
        asking = [s for s in turn if not s.draft and s.draft_room() > 0] if rows > 0 else []
        ready = [(s, f) for s in asking if (f := self._follower(s)).pace.ready(self._steps)]
        wishes = [Wish(f.pace.chance, s.draft_room()) for s, f in ready]
        decoding = sum(len(s.tokens) - s.cached == 1 for s in turn)
        wanted = lengths(wishes, decoding=decoding, rows=rows, cost=self._costs.cost)
        scarce = sum(wanted) >= rows
        turns: list[_Turn] = []
        needed, left = 0, rows
        for (sequence, follower), wish in zip(ready, wanted, strict=True):
            if scarce and not wish:
                continue  # not its fault
            length = min(left, follower.pace.granted(wish))
            if follower.pace.over:
                self._leave(follower)
            if not length or follower.pace.over:
                continue
            slot = self._catch(sequence, follower)
            if slot is None:
                continue
            one = _Turn(sequence, follower, slot, length)
            if not self._kv.make_room(needed + one.behind + length):
                # Its cells are of use to the others.
                self._leave(follower)
                follower.pace.refused()
                continue
            needed += one.behind + length
            left -= length
            turns.append(one)
        self._catch_up(turns)
        self._guess(turns)

    def _follower(self, sequence: Sequence) -> _Follower:
        return self._followers.setdefault(sequence.id, _Follower())

    def _forget_others(self, running: Container[int]) -> None:
        for number in [n for n in self._followers if n not in running]:
            self._leave(self._followers.pop(number))

    def _leave(self, follower: _Follower) -> None:
        """Gives its slot up; its cells stay for prompts that begin alike, if they are not many."""
        if follower.slot is None:
            return
        self._kv.rewind(follower.slot, min(follower.cells, follower.known))
        self._kv.retire(follower.slot)
        follower.slot, follower.known, follower.cells, follower.guessed = None, 0, 0, []
        running = [self._kv.spans(f.slot) for f in self._followers.values() if f.slot is not None]
        self._kv.make_room(self._runtime.cells - union(running) - _KEPT)

    def _catch(self, sequence: Sequence, follower: _Follower) -> int | None:
        """Brings the books up to the sequence's tokens; its slot. None: it cannot be followed."""
        tokens = sequence.tokens
        if max(tokens[follower.known :], default=0) >= self._vocabulary:
            self._leave(follower)
            follower.pace.over = True
            return None
        if follower.slot is None:
            return self._begin(sequence, follower)
        news = tokens[follower.known :]
        if follower.cells > follower.known:
            same = _common(follower.guessed, news)
            follower.cells = min(follower.cells, follower.known + same)
            self._kv.rewind(follower.slot, follower.cells)
        self._kv.append(follower.slot, news)
        follower.known, follower.guessed = len(tokens), []
        return follower.slot

    def _begin(self, sequence: Sequence, follower: _Follower) -> int | None:
        tokens, namespace = sequence.tokens, sequence.job.namespace
        prefix = self._kv.find(tokens, namespace, len(tokens) - 1)
        behind = len(tokens) - prefix.cells
        dear = behind > _TOO_MANY * (sequence.limit - len(tokens))
        if dear or self._kv.slots[0] >= self._runtime.slots:
            follower.pace.refused()
            return None
        follower.slot = self._kv.acquire(tokens, namespace, prefix)
        follower.known, follower.cells = len(tokens), prefix.cells
        return follower.slot

    def _catch_up(self, turns: list[_Turn]) -> None:
        """Evaluates what the draft model has not seen, the shortest first, within the budget."""
        left = min(_CATCH_UP, self._runtime.batch_size)
        chunks, taken = [], []
        for one in sorted(turns, key=lambda one: one.behind):
            count = min(one.behind, left)
            if not count:
                break
            left -= count
            start = one.follower.cells
            tokens = one.sequence.tokens[start : start + count]
            chunks.append(Chunk(one.slot, start, tokens, outputs=int(count == one.behind)))
            taken.append(one)
        self._decode(taken, chunks)

    def _guess(self, turns: list[_Turn]) -> None:
        """A token for each in every round, until nobody goes on; offers what was guessed."""
        for _ in range(MOST_GUESSED):
            going_on = [one for one in turns if one.row is not None and self._take(one)]
            if not going_on:
                break
            chunks = [
                Chunk(one.slot, one.follower.cells, one.follower.guessed[-1:], outputs=1)
                for one in going_on
            ]
            began = self._clock()
            if self._decode(going_on, chunks):
                self._costs.round(self._clock() - began)
        for one in turns:
            if one.follower.guessed:
                one.sequence.offer(list(one.follower.guessed), one.follower.pace)
                self._offered[one.sequence.id] = one.follower.pace

    def _take(self, one: _Turn) -> bool:
        """Looks at its logits for the next guess; whether another is to follow."""
        assert one.row is not None
        row, one.row = one.row[: self._vocabulary], None
        token = int(row.argmax())
        if not _probability(row, token) >= _SURE:
            one.follower.pace.unsure()
            return False
        guessed = one.follower.guessed
        guessed.append(token)
        return len(guessed) < one.length and token not in self._ends

    def _decode(self, turns: list[_Turn], chunks: Many[Chunk]) -> bool:
        """Evaluates a chunk for each and gives each its logits; whether there was room."""
        if not chunks:
            return False
        try:
            rows = self._runtime.decode(chunks)
        except NoRoomError:
            self._refusals += 1
            if self._refusals >= _REFUSALS:
                raise
            self._kv.evict_idle()
            return False
        self._refusals = 0
        for one, chunk, wanted in zip(turns, chunks, rows, strict=True):
            self._kv.grow(one.slot, len(chunk.tokens))
            one.follower.cells += len(chunk.tokens)
            one.row = wanted[0] if wanted else None
        return True


def _probability(row: Logits, token: int) -> float:
    """Of a token, without temperature."""
    return float(1 / np.exp(row - row[token]).sum())


def _common(guessed: Many[int], tokens: Many[int]) -> int:
    """How many of the guesses came out."""
    count = 0
    while count < min(len(guessed), len(tokens)) and guessed[count] == tokens[count]:
        count += 1
    return count
