"""What follows from the rules of a grammar: what is empty, endless, regular, first; pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from services.llama.constrain import chars, regex
from services.llama.constrain.chars import CharSet
from services.llama.constrain.gbnf_parser import Alt, Chars, Literal, Node, Ref, Repeat, Seq
from services.llama.constrain.problem import Problem

Rules = dict[str, Node]
EMPTY = Seq(())


def children(node: Node) -> tuple[Node, ...]:
    """What a node is made of; a reference is made of nothing here."""
    match node:
        case Seq(nodes) | Alt(nodes):
            return nodes
        case Repeat(inner, _, _):
            return (inner,)
        case _:
            return ()


def within(node: Node) -> Iterator[Node]:
    """The node and all below it."""
    yield node
    for inner in children(node):
        yield from within(inner)


def referred(node: Node) -> set[str]:
    """The rules that it refers to."""
    return {inner.name for inner in within(node) if isinstance(inner, Ref)}


def productive(rules: Rules) -> dict[str, Node]:
    """The rules that `root` leads to, without what no text can come out of.

    Raises Problem when nothing is left: such a grammar would be followed without end.
    """
    ends = _grown(rules, lambda name, ends: _ends(rules[name], ends))
    if "root" not in ends:
        raise Problem("no text satisfies it")
    reached, waiting = {"root"}, ["root"]
    out: dict[str, Node] = {}
    for name in waiting:  # which grows as it is read
        pruned = _pruned(rules[name], ends)
        assert pruned is not None
        out[name] = pruned
        more = referred(pruned) - reached
        reached |= more
        waiting.extend(sorted(more))
    return out


def _ends(node: Node, ends: set[str]) -> bool:
    match node:
        case Ref(name):
            return name in ends
        case Seq(nodes):
            return all(_ends(inner, ends) for inner in nodes)
        case Alt(nodes):
            return any(_ends(inner, ends) for inner in nodes)
        case Repeat(inner, least, _):
            return not least or _ends(inner, ends)
        case _:
            return True


def _pruned(node: Node, ends: set[str]) -> Node | None:
    """Without what has no end; None where nothing is left."""
    match node:
        case Ref(name):
            return node if name in ends else None
        case Seq(nodes):
            kept = [_pruned(inner, ends) for inner in nodes]
            parts = tuple(inner for inner in kept if inner is not None)
            return Seq(parts) if len(parts) == len(nodes) else None
        case Alt(nodes):
            kept = [_pruned(inner, ends) for inner in nodes]
            parts = tuple(inner for inner in kept if inner is not None)
            return Alt(parts) if parts else None
        case Repeat(inner, least, most):
            left = _pruned(inner, ends)
            if most == 0 or left is None:
                return EMPTY if not least else None
            return Repeat(left, least, most)
        case _:
            return node


def regular(rules: Rules) -> set[str]:
    """The rules that lead to no recursion: each is a regular expression."""
    references = {name: referred(node) for name, node in rules.items()}
    return _grown(rules, lambda name, found: references[name] <= found)


def nullables(rules: Rules) -> set[str]:
    """The rules that the empty text satisfies."""
    return _grown(rules, lambda name, found: is_nullable(rules[name], found))


def _grown(rules: Rules, belongs: Callable[[str, set[str]], bool]) -> set[str]:
    """The least set of rules in which each is that belongs to it."""
    found: set[str] = set()
    left = list(reversed(rules))
    while True:
        # Rules are mostly written before those they refer to: once around is often enough.
        before = len(found)
        for name in left:
            if belongs(name, found):
                found.add(name)
        if len(found) == before:
            return found
        left = [name for name in left if name not in found]


def is_nullable(node: Node, rules: set[str]) -> bool:
    """Whether the empty text satisfies the node, if it does those rules."""
    match node:
        case Ref(name):
            return name in rules
        case Seq(nodes):
            return all(is_nullable(inner, rules) for inner in nodes)
        case Alt(nodes):
            return any(is_nullable(inner, rules) for inner in nodes)
        case Repeat(inner, least, _):
            return not least or is_nullable(inner, rules)
        case _:
            return False


def firsts(rules: Rules, nullable: set[str]) -> dict[str, CharSet]:
    """The characters that a text of each rule can begin with."""
    found: dict[str, CharSet] = dict.fromkeys(rules, chars.NONE)
    changed = True
    while changed:
        changed = False
        for name in reversed(rules):
            grown = first(rules[name], nullable, found)
            changed |= grown != found[name]
            found[name] = grown
    return found


def first(node: Node, nullable: set[str], rules: Mapping[str, CharSet]) -> CharSet:
    """The characters that a text of the node can begin with."""
    match node:
        case Chars(members):
            return members
        case Literal(text):
            return chars.just(text[0])
        case Ref(name):
            return rules[name]
        case Repeat(inner, _, _):
            return first(inner, nullable, rules)
        case Alt(nodes):
            return chars.of(part for inner in nodes for part in first(inner, nullable, rules))
        case Seq(nodes):
            ranges: list[tuple[int, int]] = []
            for inner in nodes:
                ranges.extend(first(inner, nullable, rules))
                if not is_nullable(inner, nullable):
                    break
            return chars.of(ranges)


def check_weight(rules: Rules) -> None:
    """Raises Problem when counted repetitions multiply to too much, as in regular expressions."""
    known: dict[str, int] = {}

    def weigh(node: Node) -> int:
        match node:
            case Literal(text):
                return len(text)
            case Ref(name):
                return known.get(name, 1)
            case Repeat(inner, least, most):
                total = weigh(inner) * max(least, most or 1)
            case _:
                total = sum(map(weigh, children(node))) or 1
        if total > regex.MAX_WEIGHT:
            raise Problem(f"repetitions multiply to more than {regex.MAX_WEIGHT} characters")
        return total

    def is_known(name: str, found: set[str]) -> bool:
        if references[name] <= found:
            known[name] = weigh(rules[name])
            return True
        return False

    references = {name: referred(node) for name, node in rules.items()}
    for name in rules.keys() - _grown(rules, is_known):
        weigh(rules[name])
