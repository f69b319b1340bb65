"""The evaluation's questions: held-out phrasings and values, each with a check of the answer's meaning."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

from . import facts
from .chat import Chat
from .corpus import Corpus
from .phrases import forms, held_forms
from .questions import COUNTRIES, Questions, with_the
from .talk import Talk
from .tools import DOMAINS, HELD_DOMAINS, WEATHER, Task, Toolbox
from .words import Values

Check = Callable[[str], bool]


@dataclass(frozen=True)
class Case:
    category: str
    chat: Chat
    check: Check


def has(*words: str) -> Check:
    """The answer has every word (ignoring case, at word borders)."""
    return lambda text: all(re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE) for word in words)


def same(wanted: str) -> Check:
    """The answer is these words, whatever the quotes, spaces and last punctuation around them."""
    return lambda text: text.strip(" \n\"'.!") == wanted.strip(" \n\"'.!")


def as_json(wanted: Any) -> Check:
    def check(text: str) -> bool:
        try:
            return json.loads(text) == wanted
        except ValueError:
            return False
    return check


def parse_calls(text: str) -> list[tuple[str, Any]] | None:
    """The tool calls in a text, or None if one is malformed."""
    calls = []
    for body in re.findall(r"<tool_call>\n(.*?)\n</tool_call>", text, re.DOTALL):
        try:
            call = json.loads(body)
            calls.append((call["name"], call["arguments"]))
        except (ValueError, KeyError, TypeError):
            return None
    return calls


def calls(*wanted: tuple[str, Any]) -> Check:
    return lambda text: parse_calls(text) == list(wanted)


def cases(seed: int, count: int) -> Iterator[Case]:
    """`count` cases in each big category, fewer in small ones."""
    talk = Talk(Random(f"evaluation talk {seed}"), held=True)
    plain = Questions(Random(f"evaluation plain {seed}"))
    rng = talk.rng
    ask = talk.questions
    few = max(1, count // 4)
    for i in range(count):
        country, city, _, _ = COUNTRIES[i % len(COUNTRIES)]
        yield Case("capitals", Chat().user(ask.around(ask.ask("capital", with_the(country)))), has(city))
    for kind in ("colour", "opposite"):
        for _ in range(count // 2):
            item = ask.any(kind=kind)
            yield Case("colours and opposites", Chat().user(ask.around(item.ask)), has(item.short))
    for _ in range(count):
        item = plain.any(kind=rng.choice(("country", "continent", "language", "neighbour", "legs", "sound", "bigger")))
        yield Case("other facts", Chat().system("You are a helpful assistant.").user("Hey there, " + item.ask), has(item.short))
    for _ in range(count):
        a, b = plain.pair()
        yield Case("sums", Chat().user(ask.ask("plus", str(a), str(b))), has(str(a + b)))
    for _ in range(few):
        a, b = ask.pair()
        yield Case("sums of unseen pairs", Chat().user(ask.ask("plus", str(a), str(b))), has(str(a + b)))
    for _ in range(count):
        question, answer, _ = talk.echo()
        yield Case("echo", Chat().user(question), same(answer))
    for _ in range(few):
        phrase = talk.values.phrase()
        yield Case("statements", Chat().user(f"Testing {phrase}"), has(phrase.strip(".!")))
    for _ in range(few):
        item = ask.any(kind="spell")
        yield Case("spelling", Chat().user(item.ask), same(item.full))
    for _ in range(few):
        question, answer, _ = talk.count()
        yield Case("counting", Chat().user(question), same(answer))
    for _ in range(count):
        yield Case("follow-ups", *follow_up(plain, rng))
    for _ in range(few):
        chat = talk.named()
        name = chat.messages.pop()["content"].removeprefix("My name is ").removesuffix(".")
        yield Case("system: name", chat, has(name))
    for _ in range(few):
        chat = talk.memory()
        wanted = chat.messages.pop()["content"]
        yield Case("memory", chat, same(wanted))
    for _ in range(few):
        item = ask.any(kind=rng.choice(("capital", "opposite", "colour", "sums")))
        rule = rng.choice(("Please answer in one word.", "Answer with one word only.", "One word answers only."))
        yield Case("system: one word", Chat().system(rule).user(item.ask), same(item.short))
    for _ in range(few):
        item = ask.any(kind=rng.choice(("capital", "opposite", "colour", "sums")))
        language, (form, _) = rng.choice(list(facts.LANGUAGES.items()))
        yield Case("system: language", Chat().system(f"Please answer in {language}.").user(item.ask), same(form.format(item.short)))
    for _ in range(few):
        item = ask.any(kind=rng.choice(("capital", "opposite", "colour", "sums")))
        yield Case("JSON", Chat().user(f"{rng.choice(('Answer in JSON', 'Please answer in JSON', 'In JSON please'))}: {item.ask}"), as_json(json.loads(item.as_json())))
    for _ in range(few):
        question, answer, _ = talk.poem()
        thing = answer.split(",")[0].removeprefix("Oh ")
        yield Case("poems", Chat().user(question), lambda text, thing=thing: text.count("\n") == 3 and thing in text)
    for _ in range(few):
        question, _, _ = talk.unknown()
        yield Case("not knowing", Chat().user(question), has("don't know"))
    for _ in range(few):
        item = ask.any(kind=rng.choice(("capital", "opposite", "colour", "sums")))
        yield Case("thinking", Chat(think=True).user(item.ask), lambda text, item=item: text.startswith("<think>\n") and has(item.short)(text.split("</think>")[-1]))
    yield from tool_cases(seed, count)


def follow_up(plain: Questions, rng: Random) -> tuple[Chat, Check]:
    kind = rng.choice(("capital", "capital", "opposite", "colour"))
    first, second = plain.any(kind=kind), plain.any(kind=kind)
    chat = Chat().user(first.ask).answer(first.full).user(rng.choice(forms("follow", held=True)).format(second.bare))
    return chat, has(second.short)


def tool_cases(seed: int, count: int) -> Iterator[Case]:
    box = Toolbox(Random(f"evaluation tools {seed}"), held=True)
    seen = Toolbox(Random(f"evaluation seen tools {seed}"))
    seen.values = Values(seen.rng, held=True)
    rng = box.rng

    def case(category: str, task: Task) -> Case:
        return Case(category, Chat(tools=seen.beside(task.tool)).user(task.ask), calls((task.name, task.arguments)))

    for i in range(count):
        task = box.everyday(WEATHER) if i % 4 == 0 else seen.everyday()
        yield case("tool calls: known tools, new values", task)
    for _ in range(count):
        yield case("tool calls: unknown tools", box.task())
    for _ in range(count // 2):
        task = seen.everyday()
        result, report = box.outcome()
        chat = Chat(tools=seen.beside(task.tool)).user(task.ask).call([(task.name, task.arguments)]).result(result)
        yield Case("tool results used", chat, same(report))
    two = Corpus(rng)
    two.box = seen
    two.values = box.values
    for _ in range(count // 4):
        chat = Chat()
        question, wanted = two.two(chat)
        yield Case("two calls at once", chat.user(question), calls(*wanted))
    talk = Talk(rng, held=True)
    for _ in range(count // 4):
        question, answer, _ = talk.echo() if rng.random() < 0.5 else talk.greeting()
        yield Case("no call when none is needed", Chat(tools=seen.beside(seen.everyday().tool)).user(question), same(answer))


def held_texts() -> set[str]:
    """Fixed parts of the held-out phrasings, which must never appear in the corpus."""
    weather = [form for dom in (*DOMAINS, *HELD_DOMAINS) for form in dom.held_asks]
    return held_forms() | set(weather) | {form for dom in HELD_DOMAINS for form in dom.asks}
