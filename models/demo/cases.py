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
Drawn = tuple[Chat, Check]


@dataclass(frozen=True)
class Case:
    category: str
    chat: Chat
    check: Check


def has(*words: str) -> Check:
    """The answer has every word (ignoring case, at word borders)."""
    return lambda text: all(
        re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE) for word in words
    )


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


class Plain:
    """Cases without tools. Each method draws one: the conversation and the check of its answer."""

    KINDS = ("capital", "opposite", "colour")

    def __init__(self, seed: int) -> None:
        self.talk = Talk(Random(f"evaluation talk {seed}"), held=True)
        self.seen = Questions(Random(f"evaluation plain {seed}"))
        self.rng = self.talk.rng
        self.ask = self.talk.questions
        self.turn = 0

    def capital(self) -> Drawn:
        country, city, _, _ = COUNTRIES[self.turn % len(COUNTRIES)]
        self.turn += 1
        return Chat().user(self.ask.around(self.ask.ask("capital", with_the(country)))), has(city)

    def attribute(self) -> Drawn:
        item = self.ask.any(kind=self.rng.choice(("colour", "opposite")))
        return Chat().user(self.ask.around(item.ask)), has(item.short)

    def other(self) -> Drawn:
        kinds = ("country", "continent", "language", "neighbour", "legs", "sound", "bigger")
        item = self.seen.any(kind=self.rng.choice(kinds))
        chat = Chat().system("You are a helpful assistant.").user("Hey there, " + item.ask)
        return chat, has(item.short)

    def seen_sum(self) -> Drawn:
        a, b = self.seen.pair()
        return Chat().user(self.ask.ask("plus", str(a), str(b))), has(str(a + b))

    def unseen_sum(self) -> Drawn:
        a, b = self.ask.pair()
        return Chat().user(self.ask.ask("plus", str(a), str(b))), has(str(a + b))

    def echo(self) -> Drawn:
        question, answer, _ = self.talk.echo()
        return Chat().user(question), same(answer)

    def statement(self) -> Drawn:
        phrase = self.talk.values.phrase()
        return Chat().user(f"Testing {phrase}"), has(phrase.strip(".!"))

    def spelling(self) -> Drawn:
        item = self.ask.any(kind="spell")
        return Chat().user(item.ask), same(item.full)

    def counting(self) -> Drawn:
        question, answer, _ = self.talk.count()
        return Chat().user(question), same(answer)

    def follow_up(self) -> Drawn:
        kind = self.rng.choice(("capital", "capital", "opposite", "colour"))
        first, second = self.seen.any(kind=kind), self.seen.any(kind=kind)
        asked = self.rng.choice(forms("follow", held=True)).format(second.bare)
        return Chat().user(first.ask).answer(first.full).user(asked), has(second.short)

    def named(self) -> Drawn:
        chat = self.talk.named()
        name = chat.messages.pop()["content"].removeprefix("My name is ").removesuffix(".")
        return chat, has(name)

    def memory(self) -> Drawn:
        chat = self.talk.memory()
        wanted = chat.messages.pop()["content"]
        return chat, same(wanted)

    def one_word(self) -> Drawn:
        item = self.ask.any(kind=self.rng.choice(self.KINDS))
        rule = self.rng.choice(
            ("Please answer in one word.", "Answer with one word only.", "One word answers only.")
        )
        return Chat().system(rule).user(item.ask), same(item.short)

    def language(self) -> Drawn:
        item = self.ask.any(kind=self.rng.choice(self.KINDS))
        language, (form, _) = self.rng.choice(list(facts.LANGUAGES.items()))
        chat = Chat().system(f"Please answer in {language}.").user(item.ask)
        return chat, same(form.format(item.short))

    def json(self) -> Drawn:
        item = self.ask.any(kind=self.rng.choice(self.KINDS))
        start = self.rng.choice(("Answer in JSON", "Please answer in JSON", "In JSON please"))
        return Chat().user(f"{start}: {item.ask}"), as_json(json.loads(item.as_json()))

    def poem(self) -> Drawn:
        question, answer, _ = self.talk.poem()
        thing = answer.split(",")[0].removeprefix("Oh ")
        return Chat().user(question), lambda text: text.count("\n") == 3 and thing in text

    def unknown(self) -> Drawn:
        return Chat().user(self.talk.unknown()[0]), has("don't know")

    def thinking(self) -> Drawn:
        item = self.ask.any(kind=self.rng.choice(self.KINDS))
        right = has(item.short)
        chat = Chat(think=True).user(item.ask)
        return chat, lambda text: text.startswith("<think>\n") and right(text.split("</think>")[-1])


def cases(seed: int, count: int) -> Iterator[Case]:
    """`count` cases in each big category, a quarter of that in small ones."""
    plain, few = Plain(seed), max(1, count // 4)
    plan = (
        ("capitals", plain.capital, count),
        ("colours and opposites", plain.attribute, count),
        ("other facts", plain.other, count),
        ("sums", plain.seen_sum, count),
        ("sums of unseen pairs", plain.unseen_sum, few),
        ("echo", plain.echo, count),
        ("statements", plain.statement, few),
        ("spelling", plain.spelling, few),
        ("counting", plain.counting, few),
        ("follow-ups", plain.follow_up, count),
        ("system: name", plain.named, few),
        ("memory", plain.memory, few),
        ("system: one word", plain.one_word, few),
        ("system: language", plain.language, few),
        ("JSON", plain.json, few),
        ("poems", plain.poem, few),
        ("not knowing", plain.unknown, few),
        ("thinking", plain.thinking, few),
    )
    for category, draw, number in plan:
        for _ in range(number):
            yield Case(category, *draw())
    yield from tool_cases(seed, count)


def tool_cases(seed: int, count: int) -> Iterator[Case]:
    box = Toolbox(Random(f"evaluation tools {seed}"), held=True)
    seen = Toolbox(Random(f"evaluation seen tools {seed}"))
    seen.values = Values(seen.rng, held=True)
    rng = box.rng

    def case(category: str, task: Task) -> Case:
        return Case(
            category,
            Chat(tools=seen.beside(task)).user(task.ask),
            calls((task.name, task.arguments)),
        )

    for i in range(count):
        task = box.everyday(WEATHER) if i % 4 == 0 else seen.everyday()
        yield case("tool calls: known tools, new values", task)
    for _ in range(count):
        yield case("tool calls: unknown tools", box.task())
    for _ in range(count // 2):
        task = seen.everyday()
        result, report = box.outcome()
        chat = (
            Chat(tools=seen.beside(task))
            .user(task.ask)
            .call([(task.name, task.arguments)])
            .result(result)
        )
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
        yield Case(
            "no call when none is needed",
            Chat(tools=seen.beside(seen.everyday())).user(question),
            same(answer),
        )


def held_texts() -> set[str]:
    """Fixed parts of the held-out phrasings, which must never appear in the corpus."""
    weather = [form for dom in (*DOMAINS, *HELD_DOMAINS) for form in dom.held_asks]
    return held_forms() | set(weather) | {form for dom in HELD_DOMAINS for form in dom.asks}
