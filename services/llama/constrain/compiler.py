"""Constraints of the contract to compiled grammars."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

import llguidance
import structlog

from protos.inference.v1 import inference_pb2 as pb
from services.llama.constrain import gbnf, lark, regex, schema
from services.llama.constrain.matcher import NOTHING, ConstraintError, Grammar
from services.llama.constrain.problem import Problem
from services.llama.constrain.tokens import UnusableError, tokenizer
from services.llama.interface import Vocabulary
from services.worker.errors import InvalidField

# Compiled grammars kept. What one learns while it is followed takes some MiB at the most, see below.
_KEPT = 32
# All work of the library is counted, in its own units, and ends with an error instead of going on:
# fuel is spent at roughly 14 to 50 per microsecond, an item of the parser takes 50 ns, a state of the
# lexer 1 to 2 KiB.
_LIMITS = llguidance.LLParserLimits(
    max_items_in_row=10_000,
    initial_lexer_fuel=500_000,
    step_lexer_fuel=200_000,
    step_max_items=100_000,
    max_lexer_states=50_000,
    max_grammar_size=100_000,
    # Its errors would quote what was generated.
    verbose_errors=False,
)
# Once between any two parts of JSON: a space, or a new line with its indentation. Endless white space
# is what small models fall into.
_WHITESPACE = r"[ ]|\n[ \t]{0,20}"
_JSON = llguidance.LLMatcher.grammar_from_json_schema
_MAX_MESSAGE = 200

_log = structlog.get_logger()


class Constraints:
    """Makes grammars for one model. Safe to use from any thread; none of it belongs on the loop."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        """Reads the whole vocabulary: seconds for 150,000 tokens."""
        self._size, self._ends = vocabulary.size, vocabulary.ends
        self._tokenizer: llguidance.LLTokenizer | None = None
        # The most recently used last.
        self._kept: OrderedDict[tuple[str, bytes], Grammar] = OrderedDict()
        self._lock = threading.Lock()
        try:
            self._tokenizer = tokenizer(vocabulary)
        except UnusableError:
            _log.warning("no constrained output: the vocabulary has no end token")
        except Exception:  # noqa: BLE001 -- and logged
            # Whatever the library does not like about a model's vocabulary: it can still be served.
            _log.exception("no constrained output: the vocabulary cannot be used")

    @property
    def available(self) -> bool:
        """Whether there can be constrained output; compile needs it."""
        return self._tokenizer is not None

    def compile(self, constraint: pb.Constraint) -> Grammar:
        """The grammar of a checked constraint: some milliseconds, under 2 s at the worst.

        Raises InvalidField with what is wrong, for a schema with its place.
        """
        kind = constraint.WhichOneof("kind") or ""
        key = (kind, constraint.SerializeToString(deterministic=True))
        with self._lock:
            grammar = self._kept.get(key)
            if grammar is not None:
                self._kept.move_to_end(key)
                return grammar
        try:
            grammar = self._compile(_SOURCES[kind](constraint))
        except Problem as problem:
            raise InvalidField(f"constraint.{kind}", str(problem)) from None
        with self._lock:
            self._kept[key] = grammar
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return grammar

    def _compile(self, source: str) -> Grammar:
        assert self._tokenizer is not None, "not available"
        start = llguidance.LLMatcher(self._tokenizer, source, log_level=0, limits=_LIMITS)
        if start.is_error():
            raise Problem(_words(start.get_error()))
        grammar = Grammar(start, self._size, self._ends)
        try:
            # A grammar without a text, or one too large to begin with, shows here.
            grammar.matcher().mask()
        except ConstraintError as error:
            if str(error).startswith(NOTHING):
                raise Problem("nothing satisfies it") from None
            raise Problem("is too complex") from None
        return grammar


def _json_object(constraint: pb.Constraint) -> str:
    del constraint
    return _json('{"type":"object"}')


def _json_schema(constraint: pb.Constraint) -> str:
    return _json(schema.prepare(constraint.json_schema))


def _json(text: str) -> str:
    return _JSON(
        text,
        overrides={
            "whitespace_pattern": _WHITESPACE,
            # No \uXXXX: a property's name could be spelled with it, and so be there twice.
            "json_allowed_escapes": 'nrbtf\\"',
            "lenient": False,
            "coerce_one_of": False,
        },
    )


def _regex(constraint: pb.Constraint) -> str:
    regex.check(constraint.regex)
    return llguidance.LLMatcher.grammar_from_regex(constraint.regex)


def _choice(constraint: pb.Constraint) -> str:
    # One terminal, which is a regular expression: of texts that begin alike each can be reached.
    texts = " | ".join(lark.string(value) for value in constraint.choice.values)
    return llguidance.LLMatcher.grammar_from_lark(f"start: TEXT\nTEXT: {texts}\n")


def _gbnf(constraint: pb.Constraint) -> str:
    return llguidance.LLMatcher.grammar_from_lark(gbnf.to_lark(constraint.gbnf))


def _lark(constraint: pb.Constraint) -> str:
    lark.check(constraint.lark)
    return llguidance.LLMatcher.grammar_from_lark(constraint.lark)


_SOURCES: dict[str, Callable[[pb.Constraint], str]] = {
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
