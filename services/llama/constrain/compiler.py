"""Constraints of the contract to compiled grammars."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import llguidance
import structlog

from protos.inference.v1 import inference_pb2 as pb
from services.llama import guidance
from services.llama.constrain import gbnf, lark, regex, schema
from services.llama.constrain.matcher import Grammar
from services.llama.constrain.problem import Problem
from services.llama.constrain.tokens import tokenizer, usable
from services.llama.interface import Vocabulary
from services.worker.errors import ConstraintFailed, InvalidField, Unsupported

# Compiled grammars kept, and for how long: seconds of processor time that its matchers took to learn.
# What they learn is kept with it, 80 MiB a second at the worst.
_KEPT = 16
_MOST_LEARNED = 0.3
# A state of the lexer takes 300 bytes where it only counts: a string of a limited length needs 9 of
# them for each of its characters. Made of a regular expression it can take 20 KiB, so that one that
# is made for it takes 400 MiB before it fails.
_STATES_COUNTING = 100_000
_STATES = 20_000
# Of the parser, for one token; 50 ns each.
_MOST_ITEMS = 100_000
# Of a caller's own terminals one may go on for ever where another is expected, `/a+/ "a"`: what is
# forced then has no end, and the library, asked for it or for a mask, would never return.
_UNFORCED = '\n%llguidance {"no_forcing": true}'
_Library = llguidance.LLMatcher
_MAX_MESSAGE = 200

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Source:
    """A grammar in the library's words, and how many states its lexer may have."""

    grammar: str
    states: int = _STATES


def _limits(states: int) -> llguidance.LLParserLimits:
    """All work of the library is counted, and ends with an error instead of going on."""
    return llguidance.LLParserLimits(
        max_items_in_row=10_000,
        # Spent at roughly 14 to 50 per microsecond.
        initial_lexer_fuel=500_000,
        step_lexer_fuel=200_000,
        step_max_items=_MOST_ITEMS,
        max_lexer_states=states,
        max_grammar_size=100_000,
        # Its errors would quote what was generated.
        verbose_errors=False,
    )


class Constraints:
    """Makes grammars for one model. Safe to use from any thread; none of it belongs on the loop."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        """The library's view of the vocabulary, which takes time and memory, comes with the first use."""
        self._vocabulary = vocabulary
        self._tokenizer: llguidance.LLTokenizer | None = None
        self._making = threading.Lock()
        self._refused = False
        # The most recently used last.
        self._kept: OrderedDict[tuple[str, bytes], Grammar] = OrderedDict()
        self._lock = threading.Lock()
        # Whether there can be constrained output; compile needs it.
        self.available = usable(vocabulary)
        if not self.available:
            _log.warning("no constrained output: the vocabulary has no end token, or no text")

    def compile(self, constraint: pb.Constraint) -> Grammar:
        """The grammar of a checked constraint: some milliseconds, under 2 s at the worst.

        The first one takes half a second more for 150,000 tokens. Raises InvalidField with what is
        wrong, for a schema with its place; Unsupported if the vocabulary cannot be used after all.
        """
        kind = constraint.WhichOneof("kind") or ""
        key = (kind, constraint.SerializeToString(deterministic=True))
        return self._grammar(key, f"constraint.{kind}", lambda: _SOURCES[kind](constraint))

    def compile_text(self, grammar: str, field: str) -> Grammar:
        """A grammar of our own, in the library's Lark; `field` is what it was made of.

        Raises as `compile`.
        """
        return self._grammar(
            (field, grammar.encode()), field, lambda: _own(_Library.grammar_from_lark(grammar))
        )

    def compile_with(self, grammar: str, constraint: pb.Constraint) -> Grammar:
        """A grammar of our own in which `@content` is what satisfies the constraint.

        Raises as `compile`.
        """
        kind = constraint.WhichOneof("kind") or ""
        key = (grammar, constraint.SerializeToString(deterministic=True))

        def source() -> _Source:
            inner = _SOURCES[kind](constraint)
            return _Source(
                _around(_Library.grammar_from_lark(grammar), inner.grammar), inner.states
            )

        return self._grammar(key, f"constraint.{kind}", source)

    def _grammar(
        self, key: tuple[str, bytes], field: str, source: Callable[[], _Source]
    ) -> Grammar:
        vocabulary = self._whole_vocabulary()
        with self._lock:
            grammar = self._kept.get(key)
            if grammar is not None and grammar.learned < _MOST_LEARNED:
                self._kept.move_to_end(key)
                return grammar
        try:
            grammar = self._compile(vocabulary, source(), field)
        except Problem as problem:
            raise InvalidField(field, str(problem)) from None
        with self._lock:
            self._kept[key] = grammar
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return grammar

    def _whole_vocabulary(self) -> llguidance.LLTokenizer:
        with self._making:
            if self._tokenizer is None and not self._refused:
                try:
                    self._tokenizer = tokenizer(self._vocabulary)
                except Exception:  # noqa: BLE001 -- and logged
                    # Whatever the library does not like about it: next time it would not, either.
                    _log.exception("no constrained output: the vocabulary cannot be used")
                    self._refused = True
            if self._tokenizer is None:
                raise Unsupported(pb.CAPABILITY_CONSTRAINT)
            return self._tokenizer

    def _compile(self, vocabulary: llguidance.LLTokenizer, source: _Source, field: str) -> Grammar:
        start = llguidance.LLMatcher(
            vocabulary, source.grammar, log_level=0, limits=_limits(source.states)
        )
        if start.is_error():
            raise Problem(_words(start.get_error()))
        known = self._vocabulary
        grammar = Grammar(start, known.size, known.ends, vocabulary.tokenize_bytes, field)
        try:
            # A grammar without a text, or one too large to begin with, shows here.
            grammar.matcher().mask()
        except ConstraintFailed as failed:
            raise Problem(str(failed)) from None
        return grammar


def check_schema(text: str, field: str) -> str:
    """A tool's schema, as what is enforced of it. Raises InvalidField."""
    try:
        return schema.prepare(text)
    except Problem as problem:
        raise InvalidField(field, str(problem)) from None


def _own(grammar: str) -> _Source:
    return _Source(grammar, _STATES if '"pattern' in grammar else _STATES_COUNTING)


def _around(outer: str, inner: str) -> str:
    """Two grammars of the library's as one, in which the outer refers to the inner."""
    # It leaves Lark as it is.
    within = {"lark_grammar": inner}
    if inner.startswith("{"):
        (within,) = json.loads(inner)["grammars"]
    return json.dumps({"grammars": [{"lark_grammar": outer}, {**within, "name": "content"}]})


def _json_object(constraint: pb.Constraint) -> _Source:
    del constraint
    return _json('{"type":"object"}')


def _json_schema(constraint: pb.Constraint) -> _Source:
    return _json(schema.prepare(constraint.json_schema))


def _json(text: str) -> _Source:
    options: Any = guidance.JSON  # typed as a dictionary of the library's own
    grammar = _Library.grammar_from_json_schema(text, overrides=options)
    return _Source(grammar, _STATES if '"pattern' in text else _STATES_COUNTING)


def _regex(constraint: pb.Constraint) -> _Source:
    regex.check(constraint.regex)
    return _Source(_Library.grammar_from_regex(constraint.regex))


def _choice(constraint: pb.Constraint) -> _Source:
    # One terminal, which is a regular expression: of texts that begin alike each can be reached.
    texts = " | ".join(guidance.string(value) for value in constraint.choice.values)
    return _Source(_Library.grammar_from_lark(f"start: TEXT\nTEXT: {texts}\n"))


def _gbnf(constraint: pb.Constraint) -> _Source:
    return _Source(_Library.grammar_from_lark(gbnf.to_lark(constraint.gbnf)))


def _lark(constraint: pb.Constraint) -> _Source:
    lark.check(constraint.lark)
    # Behind it, so that places in errors stay what they are.
    return _Source(_Library.grammar_from_lark(constraint.lark + _UNFORCED))


_SOURCES: dict[str, Callable[[pb.Constraint], _Source]] = {
    "json_object": _json_object,
    "json_schema": _json_schema,
    "regex": _regex,
    "choice": _choice,
    "gbnf": _gbnf,
    "lark": _lark,
}


def _words(error: str) -> str:
    """The library's message in one line, without its excerpt of the source."""
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    reasons = [line for line in lines if line.startswith("error:")]
    text = reasons[-1].removeprefix("error:").strip() if reasons else lines[0]
    return text if len(text) <= _MAX_MESSAGE else text[:_MAX_MESSAGE] + "…"
