"""The corpus: an endless, seeded stream of conversations, cut into packed shards of token rows.

Shard n depends on its number alone, so training can stop and go on anywhere. A shard holds rows of three lengths
(see ROWS); rows are filled with whole conversations, which the attention mask keeps apart.

    python -m models.demo.corpus --show 20        # look at some conversations
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from random import Random

import numpy as np

from .chat import Chat, render
from .phrases import forms
from .talk import Talk
from .tokenizer import Tokenizer
from .tools import DOMAINS, VAGUE, WEATHER, Task, Toolbox
from .words import Values

Pieces = list[tuple[str, bool]]
ROWS = (256, 1024, 2048)
SHARD_CHATS = 24_000
# From this shard on much is repeated word for word: copying is what small models learn last.
COPYING_FROM = 11
PLAIN_ONLY = {
    d
    for d in DOMAINS
    if {"add", "multiply", "calculator", "get_capital", "divide", "subtract"} & set(d.names)
}


class Corpus:
    """Draws documents of every kind."""

    def __init__(self, rng: Random, *, copying: bool = False) -> None:
        """`copying`: more of what repeats words that the model has never seen."""
        self.rng = rng
        self.copying = copying
        self.talk = Talk(rng)
        self.box = Toolbox(rng)
        self.values = Values(rng)

    def tool_chat(self) -> Chat:
        """A conversation with declared tools: mostly a call, sometimes two, sometimes none is needed."""
        r, box = self.rng, self.box
        task = box.task()
        chat = Chat(tools=box.beside(task))
        if r.random() < 0.3:
            chat.system(r.choice(forms("system")))
        if r.random() < 0.15:
            makers = [self.talk.greeting, self.talk.echo]
            if task.domain not in PLAIN_ONLY:
                makers += [self.talk.item, self.talk.item]
            question, answer, thought = r.choice(makers)()
            chat.user(question).answer(answer, thought)
            if r.random() < 0.5:
                return chat
        calls, ask = (
            [(task.name, task.arguments)],
            self.talk.questions.around(task.ask) if r.random() < 0.4 else task.ask,
        )
        if r.random() < 0.1:
            ask, calls = self.two(chat)
        chat.user(ask).call(calls, f"I should call {calls[0][0]}.")
        if r.random() < 0.35:
            reports = []
            for _ in calls:
                text, report = box.outcome()
                chat.result(text)
                reports.append(report)
            chat.answer(" ".join(reports), "I have the result.")
            if r.random() < 0.25:
                self.again(chat, task.name, task.arguments)
            elif r.random() < 0.2:
                question, answer, thought = self.talk.greeting()
                chat.user(question).answer(answer, thought)
        return chat

    def many_calls(self) -> Chat:
        """Several tools and a question for each of some of them, one after the other."""
        r, box = self.rng, self.box
        tasks: list[Task] = []
        for _ in range(r.randint(2, 4)):
            task = box.task()
            vague = task.domain in VAGUE and any(t.domain in VAGUE for t in tasks)
            known = task.domain and any(t.domain == task.domain for t in tasks)
            if not vague and not known and task.name not in {t.name for t in tasks}:
                tasks.append(task)
        chat = Chat(tools=[task.tool for task in tasks])
        r.shuffle(tasks)
        for i, task in enumerate(tasks):
            ask = self.talk.questions.around(task.ask) if r.random() < 0.3 else task.ask
            chat.user(ask).call([(task.name, task.arguments)], f"I should call {task.name}.")
            if i < len(tasks) - 1:
                chat.result("ok").answer("The result is ok.", "I have the result.")
        return chat

    def again(self, chat: Chat, name: str, arguments: dict[str, object]) -> None:
        """The same tool once more for another value ("And in Rome?")."""
        r = self.rng
        key = next(iter(arguments), None)
        if key is None or not isinstance(arguments[key], str):
            return
        value = r.choice((self.values.city, self.values.name, self.values.made_up))()
        chat.user(
            r.choice(
                (
                    "And {}?",
                    "And in {}?",
                    "What about {}?",
                    "And for {}?",
                    "And now {}?",
                    "The same for {}, please.",
                )
            ).format(value)
        )
        chat.call([(name, {key: value})], f"I should call {name} again.")

    def two(self, chat: Chat) -> tuple[str, list[tuple[str, dict[str, object]]]]:
        """A question that needs the weather of two places; adds the tool to the chat."""
        r = self.rng
        tool, used = self.box.declare(WEATHER, skip_optional=1.0)
        known = {t["function"]["name"] for t in chat.tools} & set(WEATHER.names)
        chat.tools = [t for t in chat.tools if t["function"]["name"] not in known]
        chat.tools.insert(r.randint(0, len(chat.tools)), tool)
        a, b = self.values.city(), self.values.city()
        form = r.choice(
            (
                "What is the weather in {} and in {}?",
                "What is the weather in {} and {}?",
                "Weather in {} and {}?",
                "How is the weather in {} and {}?",
                "Compare the weather in {} and {}.",
                "What's the weather like in {} and {}?",
            )
        )
        name, key = tool["function"]["name"], used[0][0]
        return form.format(a, b), [(name, {key: a}), (name, {key: b})]

    def code(self) -> str:
        """A few lines of Python."""
        r, v = self.rng, self.values
        name, a, b = v.made_up(), r.choice("abcxyn"), r.choice("defpqm")
        op = r.choice("+-*/")
        return r.choice(
            (
                f"def {name}({a}, {b}):\n    return {a} {op} {b}\n",
                f"def {name}({a}):\n    for {b} in {a}:\n        print({b})\n",
                f"def {name}({a}):\n    if {a} > 0:\n        return {a}\n    return 0\n",
                f'{name} = {{"{v.noun()}": {v.number()}, "{v.noun()}": {v.number()}}}\nprint({name})\n',
                f"class {name.capitalize()}:\n    def __init__(self, {a}):\n        self.{a} = {a}\n",
            )
        )

    def fill_in(self) -> Pieces:
        """Fill in the middle: prefix and suffix are given, the middle is learnt."""
        r = self.rng
        text = self.code() if r.random() < 0.6 else self.raw_text()
        if r.random() < 0.5 and "\n" in text.strip():
            lines = text.splitlines(keepends=True)
            i = r.randrange(len(lines))
            parts = "".join(lines[:i]), lines[i], "".join(lines[i + 1 :])
        else:
            words = text.split(" ")
            i = r.randrange(len(words))
            j = min(len(words), i + r.randint(1, 4))
            parts = (
                "".join(w + " " for w in words[:i]),
                " ".join(words[i:j]),
                "".join(" " + w for w in words[j:]),
            )
        return [
            (f"<|fim_prefix|>{parts[0]}<|fim_suffix|>{parts[2]}<|fim_middle|>", False),
            (f"{parts[1]}<|endoftext|>", True),
        ]

    def raw_text(self) -> str:
        r = self.rng
        roll = r.random()
        if roll < 0.5:
            return " ".join(
                self.talk.questions.any(
                    kind=r.choice(("capital", "opposite", "colour", "language", "sums"))
                ).full
                for _ in range(r.randint(1, 4))
            )
        if roll < 0.7:
            return self.talk.count()[1]
        return self.talk.story()[1] if roll < 0.8 else self.talk.poem()[1]

    def drill(self) -> Pieces:
        """Many small exercises of one kind in a row: sums, spelling, small facts or counting."""
        r, talk = self.rng, self.talk
        roll = r.random()
        if roll < 0.3:
            pieces: Pieces = []
            for _ in range(r.randint(10, 18)):
                left, result = talk.questions.sums().full.split(" =")
                pieces += [(f"{left} =", False), (f"{result}\n", True)]
            return pieces
        chat = Chat()
        kind = r.choice(("neighbour", "neighbour", "opposite", "colour", "bigger"))
        for _ in range(r.randint(6, 10)):
            if roll < 0.5:
                item = talk.questions.any(kind=kind)
                chat.user(item.ask).answer(item.full)
            elif roll < 0.9:
                item = talk.questions.spell()
                chat.user(item.ask).answer(item.full)
            else:
                start = r.randint(0, 40)
                numbers = list(map(str, range(start, start + r.randint(2, 9))))
                asked = f"Count from {numbers[0]} to {numbers[-1]}{r.choice(('.', ''))}"
                chat.user(asked).answer(", ".join(numbers))
        return render(chat)

    def copies(self) -> Pieces:
        """Several things to repeat, spell or call tools with."""
        if self.rng.random() < 0.4:
            return render(self.many_calls())
        chat = Chat()
        for _ in range(self.rng.randint(1, 5)):
            if self.rng.random() < 0.75:
                question, answer, thought = self.talk.echo()
                chat.user(question).answer(answer, thought)
            else:
                item = self.talk.questions.spell()
                chat.user(item.ask).answer(item.full)
        return render(chat)

    def document(self) -> Pieces:
        """One document of any kind, as text pieces (text, learnt)."""
        r = self.rng
        if self.copying and r.random() < 0.4:
            return self.copies()
        roll = r.random()
        if roll < 0.006:
            return [
                (self.raw_text() if r.random() < 0.7 else self.code(), True),
                ("<|endoftext|>", True),
            ]
        if roll < 0.016:
            return self.fill_in()
        if roll < 0.021:
            return render(self.talk.long(r.choice((6, 10, 14, 24))))
        if roll < 0.081:
            return self.drill()
        if roll < 0.25:
            chat = self.many_calls()
        else:
            chat = self.tool_chat() if roll < 0.45 else self.talk.any()
        chat.think = r.random() < 0.1
        return render(chat)


def documents(seed: int, count: int) -> Iterator[Pieces]:
    corpus = Corpus(Random(f"caravan-demo {seed}"), copying=seed > COPYING_FROM)
    for _ in range(count):
        yield corpus.document()


def pack(samples: list[tuple[list[int], list[bool]]], length: int) -> dict[str, np.ndarray]:
    """Fill rows of `length` tokens with whole samples: tokens uint16, segment uint8 (0 = empty), position, learnt."""
    rows: list[list[int]] = []
    open_rows: list[tuple[int, int]] = []  # (space left, row)
    for i in sorted(
        range(len(samples)), key=lambda n: (n // 4000, -len(samples[n][0]) // 8)
    ):  # longest first, in parts
        need = len(samples[i][0])
        for slot, (space, row) in enumerate(open_rows):
            if space >= need:
                rows[row].append(i)
                open_rows[slot] = (space - need, row)
                if space - need < 24:
                    open_rows.pop(slot)
                break
        else:
            rows.append([i])
            open_rows.append((length - need, len(rows) - 1))
            if len(open_rows) > 400:
                open_rows.pop(0)
    shape = (len(rows), length)
    out: dict[str, np.ndarray] = {
        "tokens": np.zeros(shape, np.uint16),
        "segment": np.zeros(shape, np.uint8),
        "position": np.zeros(shape, np.uint16),
        "learnt": np.zeros(shape, bool),
    }
    for n, members in enumerate(rows):
        at = 0
        for k, i in enumerate(members):
            tokens, learnt = samples[i]
            part = slice(at, at + len(tokens))
            out["tokens"][n, part], out["learnt"][n, part] = tokens, learnt
            out["segment"][n, part], out["position"][n, part] = k + 1, range(len(tokens))
            at += len(tokens)
    return out


def shard(number: int, tokenizer: Tokenizer, chats: int = SHARD_CHATS) -> dict[str, np.ndarray]:
    """Shard `number` as arrays named "<row length>/<field>", rows in random order."""
    bins: dict[int, list[tuple[list[int], list[bool]]]] = {length: [] for length in ROWS}
    for pieces in documents(number + 1, chats):
        tokens: list[int] = []
        learnt: list[bool] = []
        for text, flag in pieces:
            ids = tokenizer.encode(text)
            tokens += ids
            learnt += [flag] * len(ids)
        for length in ROWS:
            if len(tokens) <= length:
                bins[length].append((tokens, learnt))
                break
    order = np.random.default_rng(number)
    arrays: dict[str, np.ndarray] = {}
    for length, samples in bins.items():
        fields = pack(samples, length)
        shuffle = order.permutation(len(fields["tokens"]))
        arrays |= {f"{length}/{name}": value[shuffle] for name, value in fields.items()}
    return arrays


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--show", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for pieces in documents(options.seed, options.show):
        print("".join(text for text, _ in pieces), end="\n---\n")


if __name__ == "__main__":
    main()
