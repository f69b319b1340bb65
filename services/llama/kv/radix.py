"""Which slots begin with the same tokens: a radix tree, pure.

Every slot's tokens are a path from the root that ends at the end of a node. A node's slots are
those whose path goes through it; the root has none. Nodes that nobody needs are joined or removed
at once.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence


class _Node:
    __slots__ = ("children", "label", "parent", "slots")

    def __init__(self, label: list[int], parent: _Node | None, slots: set[int]) -> None:
        self.label = label
        self.parent = parent
        self.slots = slots
        # By the first token of their label.
        self.children: dict[int, _Node] = {}


class PrefixTree:
    """The tokens of many slots, so that the longest common prefixes are found at once."""

    def __init__(self) -> None:
        self._root = _Node([], None, set())
        self._tails: dict[int, _Node] = {}

    def __contains__(self, slot: int) -> bool:
        return slot in self._tails

    def __len__(self) -> int:
        return len(self._tails)

    def insert(self, slot: int, tokens: Sequence[int]) -> None:
        """Takes a slot in that is not there yet."""
        assert slot not in self._tails, "the slot is in the tree"
        self._tails[slot] = self._root
        self.extend(slot, tokens)

    def extend(self, slot: int, tokens: Sequence[int]) -> None:
        """Appends to a slot's tokens."""
        node, at = self._tails[slot], 0
        if node.parent is not None and not node.children and len(node.slots) == 1:
            # Alone at the end of a branch, as most sequences that generate are: it just grows.
            node.label.extend(tokens)
            return
        while at < len(tokens):
            child = node.children.get(tokens[at])
            if child is None:
                child = _Node(list(tokens[at:]), node, {slot})
                node.children[tokens[at]] = child
                node = child
                break
            same = _common(child.label, tokens, at)
            if same < len(child.label):
                child = self._split(child, same)
            child.slots.add(slot)
            node, at = child, at + same
        self._tails[slot] = node
        for passed in self._path(slot):
            if self._tails[slot] is not passed:
                self._join(passed)

    def truncate(self, slot: int, length: int) -> None:
        """The slot keeps its first `length` tokens."""
        path = self._path(slot)
        depth = sum(len(node.label) for node in path)
        while depth > length:
            node = path.pop()
            depth -= len(node.label)
            if depth < length:
                node = self._split(node, length - depth)
                path.append(node)
                (leaving,) = (c for c in node.children.values() if slot in c.slots)
            else:
                leaving = node
            leaving.slots.remove(slot)
            self._tails[slot] = path[-1] if path else self._root
            self._tidy(leaving)

    def remove(self, slot: int) -> None:
        """Forgets a slot."""
        self.truncate(slot, 0)
        del self._tails[slot]

    def match(self, tokens: Sequence[int]) -> list[tuple[int, Collection[int]]]:
        """How many of the tokens which slots begin with, most first; a slot may come repeatedly."""
        found: list[tuple[int, Collection[int]]] = []
        node, at = self._root, 0
        while at < len(tokens):
            child = node.children.get(tokens[at])
            if child is None:
                break
            same = _common(child.label, tokens, at)
            at += same
            found.append((at, child.slots))
            if same < len(child.label):
                break
            node = child
        found.reverse()
        return found

    def tokens(self, slot: int) -> list[int]:
        """The tokens of a slot."""
        return [token for node in self._path(slot) for token in node.label]

    def nodes(self) -> int:
        """Nodes but the root, for tests: no more than needed."""
        pending, count = list(self._root.children.values()), 0
        while pending:
            node = pending.pop()
            pending.extend(node.children.values())
            count += 1
        return count

    def _path(self, slot: int) -> list[_Node]:
        path: list[_Node] = []
        node: _Node | None = self._tails[slot]
        while node is not None and node.parent is not None:
            path.append(node)
            node = node.parent
        path.reverse()
        return path

    def _split(self, node: _Node, length: int) -> _Node:
        """Cuts a node's label in two; the first part, above the node itself."""
        parent = node.parent
        assert parent is not None
        first = _Node(node.label[:length], parent, set(node.slots))
        parent.children[first.label[0]] = first
        node.label = node.label[length:]
        node.parent = first
        first.children[node.label[0]] = node
        return first

    def _tidy(self, node: _Node) -> None:
        """After a slot has left the node: removes it if empty, joins what need not be apart."""
        if node.slots:
            self._join(node)
        else:
            assert node.parent is not None
            del node.parent.children[node.label[0]]

    def _join(self, node: _Node) -> None:
        """Joins a node with its only child if the same slots go through both."""
        if node.parent is None or len(node.children) != 1:
            return
        (child,) = node.children.values()
        if len(child.slots) != len(node.slots):
            return
        node.label += child.label
        node.children = child.children
        for grandchild in node.children.values():
            grandchild.parent = node
        for slot in node.slots:
            if self._tails[slot] is child:
                self._tails[slot] = node


def _common(label: list[int], tokens: Sequence[int], at: int) -> int:
    """How many tokens from `at` on equal the label's, by comparing slices: that is fast."""
    limit = min(len(label), len(tokens) - at)
    if label[:limit] == list(tokens[at : at + limit]):
        return limit
    low, high = 0, limit  # the first `low` are equal, the first `high` are not
    while high - low > 1:
        middle = (low + high) // 2
        if label[low:middle] == list(tokens[at + low : at + middle]):
            low = middle
        else:
            high = middle
    return low
