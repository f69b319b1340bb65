"""What models of all families write, as content, reasoning and tool calls. See docs/formats.md.

Pure: texts in, events out. `description` says what a format is, `families` are those known,
`detect` finds a model's, `parser` reads with it and `grammar` writes what calls must look like.
"""

from services.llama.formats.description import Format
from services.llama.formats.detect import by_name, detect, names
from services.llama.formats.events import (
    Call,
    CallArguments,
    CallEnded,
    CallStarted,
    Content,
    Event,
    Parsed,
    Thought,
)
from services.llama.formats.grammar import (
    Thinking,
    Unsupported,
    grammar,
    trigger,
    with_content,
)
from services.llama.formats.parser import Parser, parse
from services.llama.formats.past import written
from services.llama.formats.schemas import Tool
from services.llama.formats.texts import kept, reasoning_open

__all__ = [
    "Call",
    "CallArguments",
    "CallEnded",
    "CallStarted",
    "Content",
    "Event",
    "Format",
    "Parsed",
    "Parser",
    "Thinking",
    "Thought",
    "Tool",
    "Unsupported",
    "by_name",
    "detect",
    "grammar",
    "kept",
    "names",
    "parse",
    "reasoning_open",
    "trigger",
    "with_content",
    "written",
]
