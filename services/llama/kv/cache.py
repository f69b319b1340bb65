"""The KV cache of one runtime: gives slots out, shares prefixes, keeps what ended, evicts.

A slot is *running* while a sequence generates in it, *idle* while it keeps the cells of one that
has ended, else free. What idle slots must give up is parked in the host's memory, if there is a
place. The runtime is told at once, so that books and cells cannot part ways. Used on the engine's
thread only.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

from services.llama.interface import Runtime
from services.llama.kv.ledger import Ledger, Spans, union
from services.llama.kv.parking import HeadsOf, Parking
from services.llama.kv.radix import PrefixTree
from services.llama.media.layout import PLAIN, Layout

# Least cells that are given back at once from the end of an idle slot.
_TRIM = 64
# An idle slot with fewer is not worth its place.
_WORTH_KEEPING = 16
# Cells more than slots have that make it worth while to put a parked state back.
_WORTH_RESTORING = 32
# The longest head: a beginning too short for that, such as a chat template gives to all prompts.
_HEAD = _WORTH_RESTORING - 1
# The same for a head, which is put back in less time than a token or two are computed.
_WORTH_A_HEAD = 4
# Bytes that are copied and put back in some ten milliseconds, which nobody notices.
_SOON_RESTORED = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Prefix:
    """What is there already of a prompt."""

    # Cells that can be had now, and the slot that shares them, or the parked state that has them.
    cells: int = 0
    slot: int | None = None
    parked: int | None = None
    # Cells that a running slot, still in its prefill, is going to have; of use if more than that.
    promised: int = 0
    maker: int | None = None
    spans: Spans = ()


class _Slot:
    """A slot in use."""

    __slots__ = ("cells", "layout", "namespace", "running", "tokens", "used_at")

    def __init__(self, namespace: Hashable, tokens: int, used_at: int, layout: Layout) -> None:
        self.namespace = namespace
        # Of images and sounds among the tokens.
        self.layout = layout
        # Tokens in the tree: those known, of which the first `cells` have their cells.
        self.tokens = tokens
        self.cells = 0
        self.running = True
        # On the cache's own clock, which counts uses.
        self.used_at = used_at


class KvCache:
    """Slots and cells of a runtime. Namespaces never share anything."""

    def __init__(self, runtime: Runtime, parking: Parking | None = None) -> None:
        self._runtime = runtime
        self._parking = parking
        self._ledger = Ledger()
        self._trees: dict[Hashable, PrefixTree] = {}
        self._slots: dict[int, _Slot] = {}
        self._free = list(reversed(range(runtime.slots)))
        self._uses = 0

    def __repr__(self) -> str:
        running = sum(slot.running for slot in self._slots.values())
        return (
            f"<KvCache {running} running, {len(self._slots) - running} idle slots, "
            f"{self._ledger.used} of {self._runtime.cells} cells>"
        )

    @property
    def used(self) -> int:
        """Cells in use, those of idle slots included."""
        return self._ledger.used

    @property
    def room(self) -> int:
        """Cells that nobody holds."""
        return self._runtime.cells - self._ledger.used

    @property
    def parked(self) -> int:
        """Bytes of parked states."""
        return self._parking.used if self._parking is not None else 0

    @property
    def slots(self) -> tuple[int, int]:
        """Running and idle slots."""
        running = sum(slot.running for slot in self._slots.values())
        return running, len(self._slots) - running

    def spans(self, slot: int) -> Spans:
        """The cells of a slot, as the scheduler counts them."""
        return self._ledger.spans(slot)

    def held(self, slot: int) -> int:
        """Cells of a slot."""
        return self._slots[slot].cells

    def find(
        self, tokens: Sequence[int], namespace: Hashable, most: int, layout: Layout = PLAIN
    ) -> Prefix:
        """The longest beginning of the tokens, at most `most`, that is there or will be."""
        prefix = self._find(tokens, namespace, most, layout)
        if self._parking is None:
            return prefix
        for where, worth in ((namespace, _WORTH_RESTORING), (HeadsOf(namespace), _WORTH_A_HEAD)):
            number, cells = self._parking.find(tokens, where, most)
            cells = self._cut(cells, layout)
            if cells - prefix.cells >= worth:
                # Cells of its own; no span that slots hold has a number below 0.
                spans = ((-number, cells),)
                return replace(prefix, cells=cells, slot=None, parked=number, spans=spans)
        return prefix

    def _find(
        self, tokens: Sequence[int], namespace: Hashable, most: int, layout: Layout = PLAIN
    ) -> Prefix:
        tree = self._trees.get(namespace)
        if tree is None or most <= 0:
            return Prefix()
        best, donor, promised, maker = 0, None, 0, None
        for matched, slots in tree.match(tokens):
            limit = min(matched, most)
            if limit <= best:
                break
            for number in slots:
                slot = self._slots[number]
                if slot.running and self._shareable(slot.tokens, limit) > promised:
                    promised, maker = self._shareable(slot.tokens, limit), number
                cells = self._cut(self._shareable(slot.cells, limit), layout)
                if cells > best:
                    best, donor = cells, number
                    if best == limit:
                        break  # nobody has more; many may go through this node
        spans = self._ledger.spans(donor, best) if donor is not None else ()
        return Prefix(best, donor, None, promised, maker, spans)

    def _shareable(self, cells: int, matched: int) -> int:
        """Of a slot's cells, how many one can use that has so many of its tokens."""
        if self._runtime.partial:
            return min(matched, cells)
        return cells if cells <= matched else 0

    def _cut(self, cells: int, layout: Layout) -> int:
        """Of so many cells, those that are of use where an image may be cut in two."""
        kept = layout.cut(cells)
        return kept if kept == cells or self._runtime.partial else 0

    def acquire(
        self,
        tokens: Sequence[int],
        namespace: Hashable,
        prefix: Prefix,
        layout: Layout = PLAIN,
    ) -> int:
        """A running slot for these tokens, with the prefix's cells: see `held` for how many.

        At least one slot is free or idle: callers bound what runs by the runtime's slots.
        """
        self._uses += 1
        number = self._free_slot(keep=prefix.slot)
        if number == prefix.slot:
            # The last idle slot is the one to share from: it is taken over.
            self._trim(number, prefix.cells)
            self._forget(number)
        elif prefix.slot is not None:
            self._runtime.copy(prefix.slot, number, layout.position(prefix.cells))
            self._ledger.share(prefix.slot, number, prefix.cells)
            self._slots[prefix.slot].used_at = self._uses
        slot = _Slot(namespace, len(tokens), self._uses, layout)
        slot.cells = prefix.cells if prefix.parked is None else 0
        self._slots[number] = slot
        self._trees.setdefault(namespace, PrefixTree()).insert(number, tokens)
        if prefix.parked is not None:
            self._restore(number, prefix.parked, prefix.cells)
        return number

    def _restore(self, number: int, state: int, cells: int) -> None:
        """The running slot, which has none, gets the first cells of a parked state, if it can."""
        parked = self._parking.take(state) if self._parking is not None else None
        if self._parking is None or parked is None:
            return
        # All of it needs room for a moment, whatever is to be kept.
        if self.make_room(parked.cells):
            if not self._runtime.restore(number, parked.state):
                return
            self.grow(number, parked.cells)
            self._trim(number, cells)
            if cells == parked.cells > _HEAD:
                return  # parked again when this slot is given up
        self._parking.put_back(parked)

    def make_room(self, cells: int) -> bool:
        """Evicts idle cells until as many are free; whether there are."""
        if cells <= self.room:
            return True
        for number in self._idle():
            missing = cells - self.room
            if missing <= 0:
                return True
            own = self._ledger.exclusive(number)
            held = self._slots[number].cells
            keep = held - min(own, max(missing, _TRIM))
            if own < held and keep == held - own:
                # What is left is others' too: as a slot of its own it is of no use.
                keep = 0
            self._evict(number, keep)
        return cells <= self.room

    def evict_idle(self) -> bool:
        """Gives up everything that is idle; whether there was any."""
        idle = self._idle()
        for number in idle:
            self._evict(number)
        return bool(idle)

    def shed(self, cells: int, pace: int) -> None:
        """Brings the free cells nearer to so many.

        Where states can be parked only slot by slot until `pace` cells are gained, one at least:
        that copies, and steps must go on.
        """
        if self._parking is None:
            self.make_room(cells)
            return
        enough = min(cells, self.room + max(1, pace))
        for number in self._idle():
            if self.room >= enough:
                break
            self._evict(number)

    def park_idle(self) -> bool:
        """Parks one idle slot that can be, at no other state's cost; whether there was one.

        For when nothing else is to be done: the next prompt finds the cache as if it were alone.
        """
        if self._parking is None:
            return False
        for number in self._idle():
            size = self._runtime.state_size(number)
            if size > _SOON_RESTORED or not self._parking.has_room(size):
                continue
            parked = self._park(number)
            if parked:
                self._shrink_idle(number, _HEAD)
            # Left in its cells it would cost more than those: attention looks at all up to the
            # highest in use, which a head may be that every prompt to come shares.
            if self._park_head(number) or parked:
                return True
        return False

    def _park_head(self, number: int) -> bool:
        """Parks an idle slot that holds no more than a head; whether there was one."""
        slot = self._slots.get(number)
        if self._parking is None or slot is None or slot.cells > _HEAD:
            return False
        tokens, heads = self._trees[slot.namespace].tokens(number), HeadsOf(slot.namespace)
        if not self._parking.holds(tokens, heads, but=_WORTH_A_HEAD - 1):
            size = self._runtime.state_size(number)
            state = self._runtime.save(number) if self._parking.has_room(size) else None
            if state is None:
                return False
            self._parking.add(tokens, heads, state)
        self._shrink_idle(number, 0)
        return True

    def _evict(self, number: int, keep: int = 0) -> None:
        """Takes cells from the end of an idle slot, or parks it and takes them all."""
        self._shrink_idle(number, 0 if self._park(number) else keep)

    def _park(self, number: int) -> bool:
        """Copies what an idle slot holds to the host's memory; whether it is there."""
        slot = self._slots[number]
        if self._parking is None or slot.cells < _WORTH_RESTORING:
            return False
        tokens = self._trees[slot.namespace].tokens(number)
        if self._parking.holds(tokens, slot.namespace):
            return True
        size = self._runtime.state_size(number)
        if not size or not self._parking.make_room(size):
            return False
        state = self._runtime.save(number)
        if state is not None:
            self._parking.add(tokens, slot.namespace, state)
        return state is not None

    def grow(self, number: int, cells: int) -> None:
        """The runtime has evaluated so many more of the slot's tokens."""
        self._ledger.grow(number, cells)
        self._slots[number].cells += cells

    def append(self, number: int, tokens: Sequence[int]) -> None:
        """The running sequence has got tokens, which have no cells yet."""
        slot = self._slots[number]
        self._trees[slot.namespace].extend(number, tokens)
        slot.tokens += len(tokens)

    def rewind(self, number: int, cells: int) -> None:
        """Gives back the cells after the first ones: those of drafts that were not accepted."""
        self._trim(number, cells)

    def retire(self, number: int, *, keep: bool = True) -> None:
        """The sequence has left the slot; its cells stay for others until they are evicted."""
        slot = self._slots[number]
        slot.running = False
        self._uses += 1
        slot.used_at = self._uses
        self._shrink_idle(number, slot.cells if keep else 0)

    def reset(self) -> None:
        """Forgets everything. Raises DecodeError when the runtime cannot be used any more."""
        self._ledger.clear()
        self._trees.clear()
        self._slots.clear()
        self._free = list(reversed(range(self._runtime.slots)))
        if self._parking is not None:
            self._parking.clear()
        self._runtime.reset()

    def check(self) -> None:
        """Asserts what must always hold; for tests."""
        assert set(self._free).isdisjoint(self._slots)
        assert len(self._free) + len(self._slots) == self._runtime.slots
        assert self._ledger.used <= self._runtime.cells
        assert self._ledger.used == union(self._ledger.spans(n) for n in self._slots)
        for number, slot in self._slots.items():
            assert self._ledger.held(number) == slot.cells <= slot.tokens
            assert len(self._trees[slot.namespace].tokens(number)) == slot.tokens
            assert slot.running or slot.tokens == slot.cells

    def _idle(self) -> list[int]:
        """Idle slots, least recently used first."""
        idle = ((slot.used_at, n) for n, slot in self._slots.items() if not slot.running)
        return [number for _, number in sorted(idle)]

    def _free_slot(self, keep: int | None) -> int:
        if self._free:
            return self._free.pop()
        idle = self._idle()
        number = next((n for n in idle if n != keep), None)
        if number is None:
            assert keep is not None, "no slot is idle"
            assert not self._slots[keep].running, "no slot is idle"
            return keep
        self._evict(number)
        return self._free.pop()

    def _shrink_idle(self, number: int, cells: int) -> None:
        """Keeps the first cells of an idle slot, or frees the slot when they are few."""
        slot = self._slots[number]
        cells = slot.layout.cut(cells)
        if cells < slot.cells and not self._runtime.partial:
            cells = 0
        if cells < _WORTH_KEEPING:
            self._runtime.release(number)
            self._ledger.truncate(number, 0)
            self._forget(number)
            self._free.append(number)
            return
        self._trim(number, cells)
        self._trees[slot.namespace].truncate(number, cells)
        slot.tokens = cells

    def _trim(self, number: int, cells: int) -> None:
        slot = self._slots[number]
        if cells < slot.cells:
            self._runtime.truncate(number, slot.layout.position(cells))
            self._ledger.truncate(number, cells)
            slot.cells = cells

    def _forget(self, number: int) -> None:
        namespace = self._slots.pop(number).namespace
        tree = self._trees[namespace]
        tree.remove(number)
        if not tree:
            del self._trees[namespace]
