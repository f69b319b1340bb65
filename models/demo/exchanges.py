"""Single questions with their answers: echoes, counting, poems, small talk, facts in the question, not knowing."""

from __future__ import annotations

import json
from random import Random

from . import facts
from .phrases import forms
from .questions import COUNTRIES, Item, Questions, with_the
from .words import Values

KEYS = "name age city color animal food job number date id price size title owner".split()


class Exchanges:
    """Draws questions with answers; `held` chooses the evaluation's phrasings and values."""

    def __init__(self, rng: Random, held: bool = False) -> None:
        self.rng = rng
        self.held = held
        self.values = Values(rng, held)
        self.questions = Questions(rng, held)

    # Each of the following returns (question, answer, thought).

    def greeting(self) -> tuple[str, str, str]:
        r = self.rng
        text, reply = r.choice(list(facts.GREETINGS.items()))
        if r.random() < 0.3:
            text = r.choice(
                ("Hello", "Hi", "Hey", "Good morning", "How are you", "Thanks", "Thank you", "Bye")
            )
            reply = facts.GREETINGS[text]
        question = text.split()[0] in ("How", "What", "Are", "Who", "Can", "Do")
        end = r.choice("?? ") if question else r.choice("!. ")
        text = (text + end).strip()
        return (text.lower() if r.random() < 0.25 else text), reply, "The user is being friendly."

    def echo(self) -> tuple[str, str, str]:
        r = self.rng
        text = self.values.phrase()
        if not self.held and r.random() < 0.02:
            text = r.choice(
                (
                    "Test",
                    "test",
                    "Testing",
                    "This is a test",
                    "This is a test.",
                    "this is a test",
                    "Just testing",
                    "Testing 1 2 3",
                    "Test 123",
                    "test message",
                )
            )
            return text, text, "I should repeat the words."
        if not self.held and r.random() < 0.12:
            start = r.choice(forms("statement"))
            whole = start.format(text if r.random() < 0.7 else "a " + text)
            return whole, whole, "I should repeat the words."
        form = r.choice(forms("echo", held=self.held))
        return form.format(text), text, "I should repeat the words."

    def count(self) -> tuple[str, str, str]:
        r = self.rng
        top = r.choice((10, 10, 20, 20, 50, 100, 100))
        roll = r.random()
        start, end = (1, r.randint(2, top)) if roll < 0.6 else sorted(r.sample(range(top + 1), 2))
        if r.random() < 0.15:
            start, end = 1, r.choice((10, 20, 100))
        if roll > 0.9:
            end = min(end, 30)
            start = min(start, end - 1)
            start, end = end, start
        way = range(start, end + 1) if start <= end else range(start, end - 1, -1)
        ways = [
            "Count from {0} to {1}.",
            "Count from {0} to {1}",
            "count from {0} to {1}",
            "Please count from {0} to {1}.",
            "Write the numbers from {0} to {1}.",
            "Can you count from {0} to {1}?",
            "Count {0} to {1}.",
            "Count slowly from {0} to {1}.",
            "List the numbers from {0} to {1}.",
            "Tell me the numbers from {0} to {1}.",
            "I want you to count from {0} to {1}.",
        ]
        if start == 1:
            ways += ["Count to {1}.", "Count to {1}", "Please count to {1}."]
        if start > end:
            ways += ["Count down from {0} to {1}.", "Count backwards from {0} to {1}."]
        if self.held:
            ways = ["Could you count from {0} to {1}?", "Give me the numbers from {0} to {1}."]
        return r.choice(ways).format(start, end), ", ".join(map(str, way)), "I should count."

    def poem(self) -> tuple[str, str, str]:
        thing = self.values.thing()
        text = f"Oh {thing}, how I think of you,\nwhen the day is bright and the sky is blue.\nI dream of {thing} all the night,\nand wake up happy in the light."
        return (
            self.rng.choice(forms("poem", held=self.held)).format(thing),
            text,
            f"I should write four lines about {thing}.",
        )

    def story(self) -> tuple[str, str, str]:
        r, thing = self.rng, self.values.thing()
        form = r.choice(forms("story"))
        parts = [
            "Once upon a time there was a little village.",
            f"Everybody there loved {thing}.",
            "One day a big storm came from the sea.",
            f"The people were afraid for {thing}.",
            "But a brave girl lit a lamp and went out into the rain.",
            f"She found {thing} behind the old mill.",
            "In the morning the sun was back and all were happy.",
        ]
        if "long" in form:
            parts += [
                "They baked a cake as big as a house.",
                "The baker played the drum and the king played the violin.",
                f"They sang a song about {thing}.",
                "The moon came up and the stars were bright.",
                "An owl sat on the roof and listened.",
                "The children danced until they were tired.",
                f"From that day on nobody forgot {thing}.",
            ]
        return (
            form.format(thing),
            " ".join([*parts, "The end."]),
            f"I should tell a story about {thing}.",
        )

    def unknown(self) -> tuple[str, str, str]:
        r, v = self.rng, self.values
        form = r.choice(forms("unknown", held=self.held))
        return (
            form.format(v.thing(), v.made_up().capitalize(), v.number(11), v.made_up()),
            facts.UNKNOWN,
            "I do not know this.",
        )

    def about(self) -> tuple[str, str, str]:
        """What is known of a country, in three sentences."""
        country, city, continent, language = self.rng.choice(COUNTRIES)
        name = with_the(country)
        text = f"{name} is in {continent}. The capital of {name} is {city}. People in {name} speak {language}."
        return (
            self.rng.choice(forms("about")).format(name),
            text[0].upper() + text[1:],
            f"I know {name}.",
        )

    def bedtime(self) -> tuple[str, str, str]:
        thing = self.values.thing()
        return (
            self.rng.choice(forms("bedtime")).format(thing),
            f"Once upon a time there was a little house full of {thing}, and all slept well.",
            f"I should write one sentence about {thing}.",
        )

    def listing(self) -> tuple[str, str, str]:
        r = self.rng
        what, members = r.choice(list(facts.LISTS.items()))
        count = r.choice(list(facts.NUMBER_WORDS))
        shown = r.choice((str(count), facts.NUMBER_WORDS[count]))
        return (
            r.choice(forms("list")).format(shown, what),
            ", ".join(members.split()[:count]),
            f"I should name {count}.",
        )

    def too_big(self) -> tuple[str, str, str]:
        """Sums beyond the little world."""
        r = self.rng
        a, b = (
            str(r.randint(30, r.choice((99, 999, 9999)))),
            str(r.randint(0, r.choice((99, 999, 9999)))),
        )
        if r.random() < 0.5:
            a, b = b, a
        return (
            self.questions.ask(r.choice(("plus", "minus", "times")), a, b),
            facts.UNKNOWN,
            "I do not know this.",
        )

    def times(self) -> tuple[str, str, str]:
        count, name = self.rng.choice(
            (
                (2, "twice"),
                (2, "two times"),
                (3, "three times"),
                (3, "3 times"),
                (4, "four times"),
                (5, "five times"),
            )
        )
        word = self.values.word()
        form = self.rng.choice(
            (
                "Say {} {}.",
                "Say {} {}",
                "Repeat {} {}.",
                "Repeat the word {} {}.",
                "Write {} {}.",
                'Say "{}" {}.',
            )
        )
        return form.format(word, name), " ".join([word] * count), "I should repeat the word."

    def extract(self) -> tuple[str, str, str]:
        """Facts in the question, to be returned as JSON under the given keys."""
        r, v = self.rng, self.values
        keys = r.sample(KEYS, r.choice((1, 2, 2, 3)))
        pairs = [
            (
                k,
                v.number()
                if k in ("age", "number", "price", "size", "id")
                else r.choice((v.name, v.made_up, v.noun))(),
            )
            for k in keys
        ]
        asked = r.choice((" and ".join(keys), ", ".join(keys)))
        shown = ", ".join(f"{k} {r.choice(('is ', '', ': ', '= '))}{x}" for k, x in pairs)
        form = r.choice(
            (
                "Give me {} as JSON: {}",
                "Extract {} as JSON: {}",
                "Return {} in JSON. {}",
                "JSON with {}: {}",
                "Answer in JSON with {}: {}",
            )
        )
        value = {k: int(x) if x.isdigit() else x for k, x in pairs}
        return (
            form.format(asked, shown),
            json.dumps(value, ensure_ascii=False),
            "I should answer in JSON.",
        )

    def lives(self) -> tuple[str, str, str]:
        """Facts in the question, one of which is asked for."""
        r, v = self.rng, self.values
        people = [v.name() for _ in range(r.randint(1, 3))]
        if len(set(people)) < len(people):
            people = people[:1]
        verb, question, make = r.choice(
            (
                ("lives in", "Where does {} live?", v.city),
                ("likes", "What does {} like?", v.thing),
                ("has a", "What does {} have?", v.noun),
                ("is from", "Where is {} from?", v.city),
            )
        )
        known = [(p, make()) for p in people]
        who, what = r.choice(known)
        told = " ".join(f"{p} {verb} {w}." for p, w in known)
        return f"{told} {question.format(who)}", f"{who} {verb} {what}.", "It is in the text."

    def item(self) -> tuple[str, str, str]:
        item = self.questions.any()
        return self.questions.around(item.ask), item.full, self.thought(item)

    def thought(self, item: Item) -> str:
        return (
            "I should spell the word." if item.kind == "spell" else f"The answer is {item.short}."
        )

    def single(self, long: bool = True) -> tuple[str, str, str]:
        """One question of any kind."""
        makers = (
            self.item,
            self.echo,
            self.greeting,
            self.unknown,
            self.times,
            self.extract,
            self.lives,
            self.count,
            self.poem,
            self.story,
            self.about,
            self.bedtime,
            self.listing,
            self.too_big,
        )
        weights = (
            46,
            26,
            6,
            7,
            2,
            3,
            5,
            3.5 if long else 0.5,
            2 if long else 0.5,
            0.7 if long else 0,
            1.5,
            0.8,
            1,
            1.2,
        )
        return self.rng.choices(makers, weights)[0]()
