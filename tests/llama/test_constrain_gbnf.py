from __future__ import annotations

import itertools
import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protos.inference.v1 import inference_pb2 as pb
from services.llama.constrain import gbnf_parser
from services.worker.errors import InvalidField
from tests.llama.constrained import answer, compiled, takes

SEEDS = st.integers(0, 2**32)


def grammar(text: str) -> pb.Constraint:
    return pb.Constraint(gbnf=text)


# Shapes that llama.cpp's own examples have, in our words: a rule that ends with optional white space
# before a new line that must come, comments, rules over several lines.
ARITHMETIC = r"""
root  ::= (sum "=" ws value "\n")+     # one or more lines
sum   ::= value ([-+*/] value)*
value ::= name | number | "(" ws sum ")" ws
name  ::= [a-z] [a-z0-9_]* ws
number ::= [0-9]+ ws
ws    ::= [ \t\n]*
"""
JSON = r"""
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws

object ::=
  "{" ws (
            string ":" ws value
    ("," ws string ":" ws value)*
  )? "}" ws
array  ::= "[" ws ( value ("," ws value)* )? "]" ws
string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) )* "\"" ws
number ::= "-"? ([0-9] | [1-9] [0-9]{0,15}) ("." [0-9]+)? ([eE] [-+]? [0-9]{1,3})? ws
ws ::= | " " | "\n" [ \t]{0,20}
"""
CODE = r"""
root ::= statement*
statement ::= type name "=" ws expression ";" | name "(" ")" ";" | "if" "(" expression ")" block | comment
block ::= "{" statement* "}"
type ::= "int" ws | "float" ws
name ::= [a-zA-Z_] [a-zA-Z_0-9]*
expression ::= term (("+" | "-") term)*
term ::= name | [0-9]+ | "(" expression ")" | "-" term
comment ::= "//" [^\n]* "\n" | "/*" ( [^*] | "*" [^/] )* "*/"
ws ::= [ \t\n]+
"""
LIST = r"""
root ::= item+
item ::= "- " [^\r\n\x0b\x85\u2028]+ "\n"
"""


@pytest.mark.parametrize(
    ("source", "yes", "no"),
    [
        (ARITHMETIC, ["a=1\n", "(a+b)*2 = \n c_1 \n\n\n", "1=2\n3=4\n"], ["a=1", "=1\n", "a b=1\n"]),
        (JSON, ["{}", '{"a": [1, -2.5e3, "\\u00e9"], "b": {"c": null}}\n  '], ["[]", '{"a"  : 1}']),
        (
            CODE,
            ["", "int x= 1;", "integer();", "int();", "if(a+(b-1)){/* ** */x();}", "// a\nint a= -b;"],
            ["int x=1", "if(a){", "int 1= 2;"],
        ),
        (LIST, ["- a\n", "- é\n- b c\n"], ["- a", "- \n", "- a\rb\n"]),
        ('root ::= "a"', ["a"], ["b"]),
        ("root ::= [^\\n]", ["é", "\u2028", "]"], ["\n", "ab"]),
        ("root ::= .", ["\n", "é"], [""]),
        ('root ::= "\\x41\\u00e9\\U0001F600\\t\\"\\\\\\[\\]\\-"', ['Aé😀\t"\\[]-'], ["A"]),
        ("root ::= [a\\-c\\]-]{2}", ["a-", "c]", "]]"], ["b", "a"]),
        ("root ::= [a-]", ["a", "-"], ["b"]),
        ('root ::= "a"{2,3} "b"{2} "c"{1,} "d"{0}', ["aabbc", "aaabbccc"], ["abbc", "aabbcd"]),
        ('root ::= ("a" | "b" "c")?{2}', ["", "a", "abc", "bcbc"], ["aaa", "b"]),
        ('root ::= | "a"', ["", "a"], ["aa"]),
        ('root ::= ""', [""], ["a"]),
        ('root ::= "a" |\n  "b" # c\n\n\r\nx-1 ::= "y"', ["a", "b"], ["y"]),
        ('root ::= root "a" | "b"', ["b", "baa"], ["a"]),
        ('root ::= "(" root ")" | ""', ["", "(())"], ["(()"]),
        ('root ::= a b\na ::= "x"*\nb ::= "x" "y" | a', ["xxy", "y"[:0], "xx"], ["yx"]),
        # What leads to no end is left out.
        ('root ::= "a" (loop | "b") loop?\nloop ::= "c" loop', ["ab"], ["ac"]),
    ],
)  # fmt: skip
def test_texts_of_a_grammar(source: str, yes: list[str], no: list[str]):
    assert [text for text in yes if not takes(grammar(source), text)] == []
    assert [text for text in no if takes(grammar(source), text)] == []


@settings(max_examples=20)
@given(SEEDS)
def test_an_answer_by_a_grammar_for_json_is_json(seed):
    text = answer(compiled(grammar(JSON)), seed)
    assert text is not None
    assert isinstance(json.loads(text), dict)


# Grammars over two letters, small enough to list all their texts. A rule by its number, `""`, a
# letter, a set, or several of them.
LENGTH = 5
LETTERS = "ab"
LEAVES = st.sampled_from(['"a"', '"b"', '"ab"', '"ba"', '"aab"', "[ab]", "[^b]", '""', "r1", "r2"])


def larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return (
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: f"({' '.join(parts)})")
        | st.lists(inner, min_size=2, max_size=3).map(lambda parts: f"({' | '.join(parts)})")
        | st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,2}", "{2,}"])).map("".join)
    )


RULES = st.lists(st.recursive(LEAVES, larger, max_leaves=5), min_size=3, max_size=3)


class Language:
    """All texts of at most LENGTH letters, by growing sets until none changes."""

    def __init__(self, bodies: list[str]) -> None:
        names = ["root", "r1", "r2"]
        rules = gbnf_parser.parse(
            "\n".join(f"{name} ::= {body}" for name, body in zip(names, bodies, strict=True))
        )
        self._texts: dict[str, frozenset[str]] = dict.fromkeys(rules, frozenset())
        changed = True
        while changed:
            grown = {name: self._of(node) for name, node in rules.items()}
            changed, self._texts = grown != self._texts, grown
        self.texts = self._texts["root"]

    def _of(self, node) -> frozenset[str]:
        match node:
            case gbnf_parser.Literal(text):
                return frozenset({text} if len(text) <= LENGTH else ())
            case gbnf_parser.Chars(members):
                return frozenset(
                    x for x in LETTERS if any(low <= ord(x) <= high for low, high in members)
                )
            case gbnf_parser.Ref(name):
                return self._texts[name]
            case gbnf_parser.Alt(nodes):
                return frozenset().union(*map(self._of, nodes))
            case gbnf_parser.Repeat(inner, least, most):
                once = self._of(inner)
                found, now = frozenset[str](), frozenset({""})
                for times in itertools.count():
                    if times >= least:
                        if now <= found or (most is not None and times > most):
                            return found
                        found |= now
                    now = self._joined(now, once)
            case _:
                texts = frozenset({""})
                for inner in node.nodes:
                    texts = self._joined(texts, self._of(inner))
                return texts
        raise AssertionError(node)

    def _joined(self, first: frozenset[str], second: frozenset[str]) -> frozenset[str]:
        return frozenset(a + b for a in first for b in second if len(a + b) <= LENGTH)


@settings(max_examples=120)
@given(RULES)
def test_exactly_the_texts_of_the_grammar_can_come(bodies):
    expected = Language(bodies).texts
    source = "\n".join(f"{n} ::= {b}" for n, b in zip(["root", "r1", "r2"], bodies, strict=True))
    try:
        made = compiled(grammar(source))
    except InvalidField:
        # Of all that is made here only a grammar without any text can be refused.
        assert not expected
        return
    found = set()
    matchers = [("", made.matcher())]
    for text, matcher in matchers:  # which grows as it is read
        mask = matcher.mask()
        if mask[257 // 32] >> (257 % 32) & 1:
            found.add(text)
        for letter in LETTERS if len(text) < LENGTH else "":
            if mask[ord(letter) // 32] >> (ord(letter) % 32) & 1:
                following = made.matcher()
                for before in text + letter:
                    following.accept(ord(before))
                matchers.append((text + letter, following))
    assert found == expected


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ('rot ::= "a"', "no rule 'root'"),
        ("root ::= a", "no rule 'a'"),
        ("root ::= root", "no text"),
        ('root ::= "a" root', "no text"),
        ('root ::= "a', "line 1: unexpected end"),
        ("root ::= [a", "line 1: unexpected end"),
        ('root ::= "a"\n\nx ::= (', "line 3: ')' is missing"),
        ('root ::= "a")', "line 1: a new line is missing"),
        ("root", "'::=' is missing"),
        ("::=", "name is missing"),
        ("root ::= *", "nothing to repeat"),
        ('root ::= "a"{x}', "repetition"),
        ('root ::= "a"{3,2}', "ends before it begins"),
        ('root ::= "a"{99999999}', "repetitions"),
        ('root ::= (("a"{1000}){1000}){1000}', "multiply"),
        ("root ::= [z-a]", "ends before it begins"),
        ("root ::= []", "without a character"),
        ("root ::= [^\\U00000000-\\U0010FFFF]", "without a character"),
        ('root ::= "\\q"', "unknown escape"),
        ('root ::= "\\x4"', "unknown escape"),
        ('root ::= "\\uD800"', "no character"),
        ("root ::= <think> .*", "single tokens"),
        ("root ::= !<[5]>", "single tokens"),
        ("root ::= " + "(" * 60_000, "nested deeper"),
        ("\n".join(f'r{n} ::= "a"' for n in range(501)), "rules"),
        ("\x00", "name is missing"),
    ],
)
def test_what_is_no_grammar_is_refused(source: str, reason: str):
    started = time.process_time()
    with pytest.raises(InvalidField) as error:
        compiled(grammar(source))
    assert time.process_time() - started < 1
    assert error.value.metadata == {"field": "constraint.gbnf"}
    assert reason in str(error.value)


CHAIN = "\n".join(f'a{n} ::= "(" a{n + 1} ")" | a0 "y"' for n in range(490)) + '\na490 ::= "x"'
LARGE = {
    "chain": "root ::= a0\n" + CHAIN,
    "chain of names": "root ::= a0\n" + "\n".join(f"a{n} ::= a{n + 1}" for n in range(490)) + '\na490 ::= "x"',
    "words": 'root ::= "(" root ")" | ' + " | ".join(f'"w{n}"' for n in range(5000)),
    "classes": 'root ::= "(" root ")" | ' + " | ".join(f'[a-z]* "w{n}"' for n in range(1000)),
    "deep": "root ::= " + "(" * 99 + '"a"' + ")?" * 99,
    "doubling": "root ::= a0\n" + "\n".join(f"a{n} ::= a{n + 1}? a{n + 1}" for n in range(14)) + '\na14 ::= "x"',
}  # fmt: skip


@pytest.mark.parametrize("name", LARGE)
def test_large_grammars_take_their_time_but_not_long(name: str):
    started = time.process_time()
    assert compiled(grammar(LARGE[name])).matcher().mask().any()
    assert time.process_time() - started < 5
