"""Prompts and request bodies: the same for every server, different in every run. No I/O."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from bench import invoice

Scenario = Literal[
    "plain",
    "shared-prefix",
    "warm-prefix",
    "nonstream",
    "second-turn",
    "long-prompt",
    "json-schema",
    "quote",
    "forced-copy",
    "kv-pressure",
    "memory",
]
SCENARIOS: tuple[Scenario, ...] = get_args(Scenario)
# Streams at once where a scenario says them itself; the others take any number.
FIXED_STREAMS: Mapping[Scenario, int] = {
    "second-turn": 1,
    "long-prompt": 4,
    "quote": 1,
    "forced-copy": 1,
    "kv-pressure": 16,
    "memory": 8,
}

WORDS: tuple[str, ...] = tuple(
    """
    about above across after again air almost along always animal answer apple arm around ask away
    back bad ball bank base be bear beat bed before begin behind best between big bird black blue
    boat body book both bottom bowl box boy branch bread bridge bright bring brother brown build
    burn bus buy cake call came car card care carry case cat catch cause center chair change child
    choose circle city class clean clear climb clock close cloud coast coat cold color come cook
    cool copper corn corner could count country course cover cow cross cry cut dance dark day deep
    desert did distance do doctor dog door down draw dream dress drink drive dry during each ear
    early earth east easy eat edge egg eight end energy engine enough even evening ever every eye
    face fact fall family far farm fast father feel feet few field fight fill find fine finger
    finish fire first fish five floor flow flower fly follow food foot force forest form forward
    four free fresh friend from front fruit full game garden gate gave gentle get girl give glad
    glass go gold good grass gray great green ground group grow had half hand happy hard has hat
    have head hear heart heat heavy help her here high hill him his history hold hole home hope
    horse hot hour house how human hundred hunt ice idea if inch island it job join jump just keep
    key kind king knee knew know lake land language large last late laugh lay lead leaf learn leave
    left leg less let letter life lift light like line lion list listen little live long look lost
    lot loud love low machine made main make man many map mark market may me mean measure meet men
    metal middle might mile milk mind minute miss money month moon more morning most mother mountain
    mouth move much music must name near neck need never new next nice night nine no noise noon
    north nose note nothing notice now number ocean of off office often oil old on once one only
    open or orange order other our out over own page paint pair paper part party pass past path pay
    """.split()  # noqa: SIM905 -- 350 words, one a line or in quotes, would bury the module
)
_SENTENCE = 12
# One word in so many is another in a text to be given back.
_EDITED = 25
# Around one user message, in the bench models' template.
_TEMPLATE_TOKENS = 22


@dataclass(frozen=True, slots=True)
class Shape:
    """What is asked of every server alike. Lengths are words and tokens as named."""

    seed: int = 1
    # With a template around it and one token a word: about 130 tokens.
    prompt_words: int = 100
    # Of a shared system prompt, and of a chat's first turn.
    system_words: int = 400
    question_words: int = 20
    # With its full stops and a template around it: about 4,000 tokens.
    long_words: int = 3670
    copied_words: int = 200
    # What the demo model can still repeat without a slip.
    quoted_words: int = 24
    max_tokens: int = 48
    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05

    # More than a server generates while it evaluates a long prompt.
    running_tokens: int = 400
    # Enough for the schema to be filled to its bounds, one byte a token.
    schema_tokens: int = 320
    pressure_tokens: int = 128


def text(words: int, *key: object) -> str:
    """`words` words drawn by the key: the same key, the same text, on every machine."""
    draw = _draw(*key)
    chosen = [draw.choice(WORDS) for _ in range(words)]
    lines = (chosen[at : at + _SENTENCE] for at in range(0, words, _SENTENCE))
    return " ".join(" ".join(line) + "." for line in lines)


def requests_of(scenario: Scenario, streams: int) -> int:
    """How many requests one run of a cell has when nobody says otherwise."""
    return {
        "second-turn": 4,
        "long-prompt": 1,
        # One burst: behind it the prompt would be cold no longer.
        "shared-prefix": streams,
        "json-schema": streams,
        "quote": 8,
        "forced-copy": 2,
        "kv-pressure": streams,
    }.get(scenario, max(4, 3 * streams))


def bodies(
    shape: Shape, scenario: Scenario, concurrency: int, run: int, count: int
) -> list[dict[str, Any]]:
    """The chat completion requests of one run of one cell, without their `model`.

    Of `second-turn` they are the first turns, of `long-prompt` the long prompts. No user message
    comes twice, so nothing but what a scenario shares can be reused: the system prompt within a
    run (`shared-prefix`: cold when the run begins), or in all runs (`warm-prefix`).
    """
    key = (shape.seed, scenario, concurrency)
    system = {
        "shared-prefix": text(shape.system_words, *key, "system", run),
        "warm-prefix": text(shape.system_words, shape.seed, "system"),
    }.get(scenario)
    made = []
    for index in range(count):
        messages = [_user(_message(shape, scenario, (*key, run, index)))]
        if system is not None:
            messages.insert(0, {"role": "system", "content": system})
        body = _completion(shape, messages, *key, run, index)
        if scenario == "nonstream":
            body["stream"] = False
            del body["stream_options"]
        made.append(body | _own(shape, scenario))
    return made


def running_bodies(shape: Shape, run: int, index: int, streams: int) -> list[dict[str, Any]]:
    """The streams that are running when the long prompt number `index` of a run arrives."""
    key = (shape.seed, "running", run, index)
    made = (
        _completion(shape, [_user(text(shape.prompt_words, *key, n))], *key, n)
        for n in range(streams)
    )
    return [body | {"max_tokens": shape.running_tokens} for body in made]


def next_turn(shape: Shape, first: Mapping[str, Any], answer: str, index: int) -> dict[str, Any]:
    """The second turn of a chat: its first turn, the answer to that, and a new question."""
    key = (shape.seed, "next turn", first["seed"], index)
    question = _user(text(shape.question_words, *key))
    told = {"role": "assistant", "content": answer}
    return _completion(shape, [*first["messages"], told, question], *key)


def quoted(body: Mapping[str, Any]) -> str:
    """The text that a request of `quote` or `forced-copy` asks to be given back."""
    return str(body["messages"][-1]["content"]).partition(": ")[2]


def cells_needed(shape: Shape) -> int:
    """KV cells that the requests of `kv-pressure` fill when all of them are at their end.

    By words, full stops and the bench models' template; other tokenizers need more.
    """
    prompt = shape.prompt_words + -(-shape.prompt_words // _SENTENCE) + _TEMPLATE_TOKENS
    return FIXED_STREAMS["kv-pressure"] * (prompt + shape.pressure_tokens)


def _message(shape: Shape, scenario: Scenario, key: tuple[object, ...]) -> str:
    match scenario:
        case "second-turn":
            return text(shape.system_words, *key)
        case "long-prompt":
            return text(shape.long_words, *key)
        case "json-schema":
            return f"Write an invoice about this. {text(shape.prompt_words, *key)}"
        case "quote":
            return f"Repeat the following text exactly: {text(shape.quoted_words, *key)}"
        case "forced-copy":
            before = text(shape.question_words, *key)
            return f"{before} Give this back: {_edited(shape.copied_words, *key)}"
        case _:
            return text(shape.prompt_words, *key)


def _edited(words: int, *key: object) -> str:
    """The words that a `-copy` model recites, with one in 25 replaced: a text to be corrected."""
    recited = [WORDS[at % len(WORDS)] for at in range(words)]
    draw = _draw(*key, "edits")
    for at in draw.sample(range(words), words // _EDITED):
        recited[at] = draw.choice(WORDS)
    return " ".join(recited)


def _own(shape: Shape, scenario: Scenario) -> dict[str, Any]:
    """What a scenario asks for differently. Copies are greedy, so that both sides say the same."""
    match scenario:
        case "json-schema":
            # With the end token forbidden a finished document could not end.
            bounds = {"max_tokens": shape.schema_tokens, "ignore_eos": False}
            return bounds | {"response_format": invoice.RESPONSE_FORMAT}
        case "quote":
            bounds = {"max_tokens": 8 * shape.quoted_words, "ignore_eos": False}
            return bounds | {"temperature": 0.0}
        case "forced-copy":
            return {"max_tokens": shape.copied_words, "temperature": 0.0}
        case "kv-pressure":
            return {"max_tokens": shape.pressure_tokens}
        case _:
            return {}


def _completion(shape: Shape, messages: list[dict[str, str]], *key: object) -> dict[str, Any]:
    return {
        "messages": messages,
        "max_tokens": shape.max_tokens,
        "temperature": shape.temperature,
        "top_k": shape.top_k,
        "top_p": shape.top_p,
        "min_p": shape.min_p,
        "seed": _draw(*key, "seed").getrandbits(31),
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def _user(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


def _draw(*key: object) -> random.Random:
    return random.Random(":".join(map(str, key)))
