"""Output that must look like something: JSON, a regular expression, a list of texts, a grammar.

llguidance computes the masks; `tokens` tells it the vocabulary, `schema`, `regex`, `gbnf` and `lark`
check and rewrite what a request asks for, `compiler` makes grammars of it and `matcher` follows them.
"""

from services.llama.constrain.compiler import Constraints, check_schema
from services.llama.constrain.matcher import ConstraintError, Grammar, Matcher

__all__ = ["ConstraintError", "Constraints", "Grammar", "Matcher", "check_schema"]
