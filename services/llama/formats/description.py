"""What a family's output looks like: plain data, from which `parser` reads and `grammar` writes.

Texts are as the family itself writes them. Reading, white space in them may be missing or other
white space. In heads, a name in braces stands for what varies:

    {name}    the function's name        {key}     a parameter's name
    {id}      the call's id              {string}  "true" or "false": whether the value is a text
    {code}    the same, ten small letters and digits where it is written
    {index}   a number, not used         {type}    JSON's name of the value's type
    {channel} a word, not used
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Reasoning:
    """What stands around the model's thoughts. The prompt may have written `open` already."""

    open: str = "<think>"
    close: str = "</think>"
    # Whether it may begin in the midst of an answer, and not only before it.
    anywhere: bool = False
    # Whether a call may begin before `close`, and so ends it.
    until_calls: bool = False


@dataclass(frozen=True, slots=True)
class Json:
    """Arguments are a JSON object, given on as they are."""


@dataclass(frozen=True, slots=True)
class Tagged:
    """Arguments stand one by one between tags: texts as they are, other values as JSON."""

    # What precedes a value, the way it is written first.
    parameter: tuple[str, ...]
    # What follows it.
    close: str
    # Whether the value has lines of its own: a newline is taken off on both sides.
    lines: bool = False
    # Written after each parameter, and before the first.
    between: str = "\n"
    before: str = ""
    # Whether a text may stand in `<![CDATA[…]]>`, and then hold `close`.
    cdata: bool = False


@dataclass(frozen=True, slots=True)
class Elements:
    """Arguments are elements named like them, and so are, inside of these, members of objects."""

    # What precedes every tag, and stands in no text.
    mark: str
    # The elements of an array.
    item: str = "item"


@dataclass(frozen=True, slots=True)
class Literals:
    """Arguments are literals of a programming language behind their names."""

    open: str
    close: str
    # Between a name and its value.
    assign: str
    # What stands around texts, each with itself; of those that begin alike the longest first.
    quotes: tuple[str, ...]
    # Whether a backslash in a text means something.
    escapes: bool
    # What is written for true, false and null.
    constants: tuple[str, str, str] = ("true", "false", "null")
    separator: str = ", "


Body: TypeAlias = Json | Tagged | Elements | Literals


@dataclass(frozen=True, slots=True)
class Inside:
    """A call is a JSON object that holds its name."""

    # As it is written; {arguments} are a JSON object. Read are all its keys in any order.
    example: str = '{"name": "{name}", "arguments": {arguments}}'
    names: tuple[str, ...] = ("name",)
    arguments: tuple[str, ...] = ("arguments", "parameters")
    # The key of the call's id; "": there is none, or one that is worth nothing.
    id: str = ""
    # Whether the object has one key, which is the name, and the arguments as its value.
    by_name: bool = False


@dataclass(frozen=True, slots=True)
class Outside:
    """A call is its name in a head, and then the arguments."""

    # The head, the way it is written first.
    heads: tuple[str, ...]
    body: Body
    # What follows the arguments: each of them may be missing.
    end: tuple[str, ...] = ()
    # The call's id, if the head has no {id} and yet gives one.
    id: str = ""
    # What is no part of a name, at its beginning or end.
    strip: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Calls:
    """Where calls are and what stands around them."""

    # The ways a call may look, the one it is written in first.
    call: tuple[Inside | Outside, ...]
    # Around all calls that follow each other; or around each, where there is no `call_open`.
    # No `open`: calls stand bare, at the beginning of a line.
    open: str = ""
    close: str = ""
    # Around each call inside of `open` and `close`.
    call_open: str = ""
    call_close: str = ""
    # Between calls inside of `open` and `close`; "": each has an opening of its own.
    separator: str = ""
    # Written between calls that each have their opening.
    again: str = ""
    # Whether the calls are written as a list.
    array: bool = False
    # Whether `open` proves that a call follows. If not, it is one only with a declared name.
    certain: bool = True
    # Whether an answer may hold more than one.
    several: bool = True


_JSON = Json()


@dataclass(frozen=True, slots=True)
class Channels:
    """Output is a series of messages, each with a head that says what it is."""

    # What begins a message, written by the prompt for the first.
    start: tuple[str, ...]
    # The heads that may follow, by what they introduce.
    content: tuple[str, ...]
    reasoning: tuple[str, ...]
    calls: tuple[str, ...]
    # What ends a message.
    ends: tuple[str, ...]
    # What a head may begin with where `start` is missing.
    heads: tuple[str, ...] = ()
    # In front of the names of declared functions; and names of no function.
    namespace: str = ""
    nobody: tuple[str, ...] = ()
    # Whether an answer may hold more than one call.
    several: bool = False
    # A call's arguments, and what follows them: each of it may be missing.
    body: Body = _JSON
    end: tuple[str, ...] = ()
    # Around all calls of a message, and written between calls; None: what begins a message.
    open: str = ""
    close: str = ""
    between: str | None = None
    # The part of a call's head that proves that it is one, where what precedes the name does not.
    proof: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """One family."""

    name: str
    # Alternatives of texts that all stand in the chat template, or are special tokens; those that
    # begin with "!" do not.
    signs: tuple[tuple[str, ...], ...]
    calls: tuple[Calls, ...] = ()
    reasoning: tuple[Reasoning, ...] = (Reasoning(),)
    channels: Channels | None = None
    # What may stand around the whole answer.
    wrappers: tuple[tuple[str, str], ...] = ()
    # Texts that end the turn, whether the model's metadata says so or not.
    stops: tuple[str, ...] = ()
