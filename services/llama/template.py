"""Renders a model's chat template: untrusted code over untrusted data, so in a sandbox.

Its loops, its output and the usual ways to make huge values (template_bounds) are bounded. Text
that users gave never becomes a control token (see marks).
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, NoReturn, TypeGuard

import jinja2
from jinja2 import meta, nodes
from jinja2.ext import Extension
from jinja2.filters import do_indent
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from services.llama import template_bounds as bounds
from services.llama.marks import MARK, MEDIA, OPEN_END, Marks, plain
from services.llama.template_bounds import MAX_CHARACTERS

_ESCAPED_MARKS = re.compile(
    rf"(?<!\\)((?:\\\\)*)\\u({ord(MARK):x}|{ord(OPEN_END):x}|{ord(MEDIA):x})"
)

# Limits of one rendering.
MAX_SECONDS = 2.0
_MAX_ITERATIONS = 1_000_000


class TemplateError(Exception):
    """The template refused, failed or took too much; the message may go to the caller."""


class ChatTemplate:
    """A compiled chat template. Safe to use from any thread."""

    def __init__(self, source: str, special: Iterable[str]) -> None:
        """`special` are the texts of the control tokens. Raises TemplateError."""
        self.source = source
        environment = _environment()
        try:
            tree = environment.parse(source)
            self.words = _words(tree)
            """Names of fields that it reads, and all its texts."""
            self.texts = frozenset(data.data for data in tree.find_all(nodes.TemplateData))
            """What it writes outside of expressions."""
            self._marks = Marks(special, _sought(tree))
            # Last: it folds constants.
            self.variables = frozenset(meta.find_undeclared_variables(tree))
            """Names that it takes from outside."""
            _bound_loops(tree)
            _Concatenations().visit(tree)
            code = environment.compile(tree)
            self._template = jinja2.Template.from_code(environment, code, environment.globals)
        except (jinja2.TemplateError, RecursionError) as error:
            raise TemplateError(f"the chat template does not compile: {error}") from None

    def render(self, given: Mapping[str, Any], ours: Mapping[str, Any]) -> str:
        """The prompt, with marks in it. `given` is users' data, `ours` is trusted and wins.

        Raises TemplateError.
        """
        variables = {**self._marks.protect(given), **ours, "_budget": _Budget()}
        pieces: list[str] = []
        length = 0
        try:
            for piece in self._template.generate(variables):
                pieces.append(piece)
                length += len(piece)
                if length > MAX_CHARACTERS:
                    break
        except TemplateError:
            raise
        except (MemoryError, RecursionError):
            raise TemplateError("the chat template takes too much") from None
        except Exception as error:  # noqa: BLE001 -- it is code: whatever it raises is its fault
            raise TemplateError(str(error) or type(error).__name__) from None
        if length > MAX_CHARACTERS:
            raise TemplateError("the chat template writes too much")
        return "".join(pieces)

    def protect(self, text: str) -> str:
        """A user's text as `render` gives it to the template."""
        protected: str = self._marks.protect(text)
        return protected

    def split(self, rendered: str) -> Iterator[tuple[str, bool]]:
        """The prompt in pieces, without marks: (text, whether it is one control token)."""
        return self._marks.split(rendered)


class _Budget:
    """How much looping one rendering has left."""

    def __init__(self) -> None:
        self._iterations = 0
        self._deadline = time.monotonic() + MAX_SECONDS

    def spend(self) -> None:
        self._iterations += 1
        if self._iterations > _MAX_ITERATIONS or time.monotonic() > self._deadline:
            raise TemplateError("the chat template takes too long")


class _Bounded(list[Any]):
    """What a loop runs over; every turn costs. A list, because templates ask for its length."""

    budget: _Budget

    def __iter__(self) -> Iterator[Any]:
        for item in super().__iter__():
            self.budget.spend()
            yield item


@jinja2.pass_context
def _bounded(context: jinja2.runtime.Context, items: Iterable[Any]) -> _Bounded:
    budget: _Budget = context["_budget"]
    result = _Bounded()
    result.budget = budget
    for item in items:
        budget.spend()
        result.append(item)
    return result


def _bound_loops(tree: nodes.Template) -> None:
    for loop in tree.find_all(nodes.For):
        loop.iter = nodes.Filter(loop.iter, "_bounded", [], [], None, None).set_lineno(loop.lineno)


def _words(tree: nodes.Template) -> frozenset[str]:
    fields = {node.attr for node in tree.find_all(nodes.Getattr)}
    return frozenset(fields | {c.value for c in tree.find_all(nodes.Const) if _is_text(c)})


# Methods and filters that look for a text in another.
_SEEKING = frozenset(
    ("split", "rsplit", "partition", "rpartition", "startswith", "endswith", "find", "replace")
)


def _sought(tree: nodes.Template) -> set[str]:
    """Texts that it looks for in others, directly or by a variable that is set to them."""
    known = {
        node.target.name: node.node.value
        for node in tree.find_all(nodes.Assign)
        if isinstance(node.target, nodes.Name) and _is_text(node.node)
    }
    looked = [
        compare.expr
        for compare in tree.find_all(nodes.Compare)
        if any(operand.op in ("in", "notin") for operand in compare.ops)
    ]
    for call in tree.find_all(nodes.Call):
        if isinstance(call.node, nodes.Getattr) and call.node.attr in _SEEKING:
            looked += call.args
    for used in tree.find_all(nodes.Filter):
        if used.name in _SEEKING:
            looked += used.args
    texts = {expr.value for expr in looked if _is_text(expr)}
    names = {expr.name for expr in looked if isinstance(expr, nodes.Name)}
    return texts | {text for name, text in known.items() if name in names}


def _is_text(node: nodes.Node) -> TypeGuard[nodes.Const]:
    return isinstance(node, nodes.Const) and isinstance(node.value, str)


class _Environment(ImmutableSandboxedEnvironment):
    """Also refuses to make huge values (see template_bounds for which)."""

    intercepted_binops = frozenset(("*", "**", "+", "%"))

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Also what makes a template's own list longer or shorter by one; not users' lists."""
        return super().is_safe_attribute(obj, attr, value) or (
            type(obj) is list and attr in ("append", "pop")
        )

    def call_binop(
        self, context: jinja2.runtime.Context, operator: str, left: Any, right: Any
    ) -> Any:
        """Computes, or raises TooLargeError."""
        bounds.operation(operator, left, right)
        return super().call_binop(context, operator, left, right)

    def call(self, context: jinja2.runtime.Context, obj: Any, /, *args: Any, **named: Any) -> Any:
        """Calls, or raises TooLargeError."""
        owner = getattr(obj, "__self__", None)
        if isinstance(owner, str):
            bounds.method(owner, obj.__name__, args, named)
        return super().call(context, obj, *args, **named)


class _Concatenations(NodeTransformer):
    """Makes `~` a filter that looks at the size."""

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802 -- named by jinja2
        self.generic_visit(node)
        parts = nodes.List(node.nodes)
        made = nodes.Filter(parts, "_concatenated", [], [], None, None)
        return made.set_lineno(node.lineno)


def _center(value: str, width: int = 80) -> str:
    bounds.width(width)
    return str(value).center(width)


def _indent(value: str, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    bounds.width(width)
    bounds.replacing(str(value), "\n", " " * width if isinstance(width, int) else width)
    return do_indent(value, width, first, blank)


def _replace(value: object, old: object, new: object, count: int = -1) -> str:
    bounds.replacing(str(value), str(old), str(new))
    return str(value).replace(str(old), str(new), count)


def _format(value: object, *args: Any, **named: Any) -> str:
    bounds.formatting(str(value), named or args, "%")
    return str(value) % (named or args)


class _Generation(Extension):
    """`{% generation %}`, which trainers use to find the assistant's part; here it does nothing."""

    def __init__(self, environment: jinja2.Environment) -> None:
        super().__init__(environment)
        self.tags = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _environment() -> _Environment:
    environment = _Environment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.loopcontrols", _Generation],
    )
    environment.filters["tojson"] = _tojson
    environment.filters["_bounded"] = _bounded
    environment.filters["_concatenated"] = bounds.concatenated
    environment.filters["center"] = _center
    environment.filters["indent"] = _indent
    environment.filters["replace"] = _replace
    environment.filters["format"] = _format
    # Nothing is escaped here, and a text that is "safe" would escape what is joined to it.
    environment.filters["safe"] = str
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = _strftime_now
    return environment


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """As Hugging Face's: key order kept, no HTML escapes."""
    written = json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
        default=_listed,
    )
    # Marks stay marks; a backslash that is itself escaped begins nothing.
    return _ESCAPED_MARKS.sub(lambda m: m[1] + chr(int(m[2], 16)), written)


def _listed(value: Any) -> Any:
    """What filters such as `map` give."""
    if isinstance(value, Iterator):
        return list(value)
    raise TypeError(f"{type(value).__name__} is not JSON serializable")


def _raise(message: str) -> NoReturn:
    raise TemplateError(plain(str(message)))


def _strftime_now(form: str) -> str:
    return datetime.now().astimezone().strftime(form)
