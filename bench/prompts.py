"""Prompts and request bodies: the same for every server, different in every run. No I/O."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, Literal, get_args

Scenario = Literal["plain", "shared-prefix", "warm-prefix", "nonstream"]
SCENARIOS: tuple[Scenario, ...] = get_args(Scenario)

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


@dataclass(frozen=True, slots=True)
class Shape:
    """What is asked of every server alike."""

    seed: int = 1
    # With a template around it and one token a word: about 130 tokens.
    prompt_words: int = 100
    system_words: int = 400
    max_tokens: int = 48
    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05


def text(words: int, *key: object) -> str:
    """`words` words drawn by the key: the same key, the same text, on every machine."""
    draw = random.Random(":".join(str(part) for part in key))
    chosen = [draw.choice(WORDS) for _ in range(words)]
    lines = (chosen[at : at + _SENTENCE] for at in range(0, words, _SENTENCE))
    return " ".join(" ".join(line) + "." for line in lines)


def bodies(
    shape: Shape, scenario: Scenario, concurrency: int, run: int, count: int
) -> list[dict[str, Any]]:
    """The chat completion requests of one run of one cell, without their `model`.

    No user message comes twice, so nothing but what a scenario shares can be reused: the system
    prompt within a run (`shared-prefix`: cold when the run begins), or in all runs (`warm-prefix`).
    """
    key = (shape.seed, scenario, concurrency)
    system = {
        "shared-prefix": text(shape.system_words, *key, "system", run),
        "warm-prefix": text(shape.system_words, shape.seed, "system"),
    }.get(scenario)
    made = []
    for index in range(count):
        messages = [{"role": "user", "content": text(shape.prompt_words, *key, run, index)}]
        if system is not None:
            messages.insert(0, {"role": "system", "content": system})
        body: dict[str, Any] = {
            "messages": messages,
            "max_tokens": shape.max_tokens,
            "temperature": shape.temperature,
            "top_k": shape.top_k,
            "top_p": shape.top_p,
            "min_p": shape.min_p,
            "seed": random.Random(":".join(map(str, (*key, run, index, "seed")))).getrandbits(31),
            "ignore_eos": True,
            "stream": scenario != "nonstream",
        }
        if body["stream"]:
            body["stream_options"] = {"include_usage": True}
        made.append(body)
    return made
