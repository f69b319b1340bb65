"""Questions with one right answer: capitals, sums, spelling, colours and the like, in many phrasings.

Each kind of question has phrasings to train on and held-out phrasings that only the evaluation uses.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from random import Random

from . import facts
from .phrases import forms
from .words import ADJECTIVES, NOUNS, Values


@dataclass(frozen=True)
class Item:
    """A question and its answer in the forms that a system prompt may ask for."""

    kind: str
    ask: str
    full: str
    short: str
    key: str
    bare: str = ""  # the subject alone, for follow-ups ("Italy")
    json_value: object = None

    def as_json(self) -> str:
        return json.dumps(
            {self.key: self.short if self.json_value is None else self.json_value},
            ensure_ascii=False,
        )


COUNTRIES = facts.rows(facts.COUNTRIES)
COLOURS = facts.rows(facts.COLOURS)
_pairs = facts.rows(facts.OPPOSITES)
OPPOSITES = [(a, b) for a, b in _pairs] + [(b, a) for a, b in _pairs]
SOUNDS = facts.rows(facts.SOUNDS)
LEGS = facts.rows(facts.LEGS)
THE = {"Netherlands", "Philippines", "United States"}


def with_the(country: str) -> str:
    return f"the {country}" if country in THE else country


def held_sum(a: int, b: int) -> bool:
    """Whether the pair a, b (in either order) is kept for the evaluation."""
    return zlib.crc32(f"{min(a, b)}+{max(a, b)}".encode()) % 12 == 0


class Questions:
    """Draws items; `held` chooses held-out phrasings and values."""

    def __init__(self, rng: Random, held: bool = False) -> None:
        self.rng = rng
        self.held = held
        self.values = Values(rng, held)

    def ask(self, kind: str, *slots: str, follow: bool = False) -> str:
        text = self.rng.choice(forms("follow" if follow else f"ask.{kind}", held=self.held)).format(
            *slots
        )
        return (
            text[0].upper() + text[1:]
            if slots[0].startswith("the ") and text.startswith("the ")
            else text
        )

    def capital(self, follow: bool = False) -> Item:
        country, city, _, _ = self.rng.choice(COUNTRIES)
        name = with_the(country)
        return Item(
            "capital",
            self.ask("capital", name, follow=follow),
            f"The capital of {name} is {city}.",
            city,
            "capital",
            name,
        )

    def country(self, follow: bool = False) -> Item:
        country, city, _, _ = self.rng.choice(COUNTRIES)
        full = f"{city} is the capital of {with_the(country)}."
        return Item(
            "country", self.ask("country", city, follow=follow), full, country, "country", city
        )

    def continent(self, follow: bool = False) -> Item:
        country, _, continent, _ = self.rng.choice(COUNTRIES)
        full = f"{with_the(country)} is in {continent}."
        return Item(
            "continent",
            self.ask("continent", with_the(country), follow=follow),
            full[0].upper() + full[1:],
            continent,
            "continent",
            country,
        )

    def language(self, follow: bool = False) -> Item:
        country, _, _, language = self.rng.choice(COUNTRIES)
        name = with_the(country)
        return Item(
            "language",
            self.ask("language", name, follow=follow),
            f"People in {name} speak {language}.",
            language,
            "language",
            country,
        )

    def colour(self, follow: bool = False) -> Item:
        thing, colour = self.rng.choice(COLOURS)
        return Item(
            "colour",
            self.ask("colour", thing, follow=follow),
            f"{thing.capitalize()} is {colour}.",
            colour,
            "colour",
            thing,
        )

    def opposite(self, follow: bool = False) -> Item:
        word, other = self.rng.choice(OPPOSITES)
        shown = word if follow or self.rng.random() < 0.8 else f'"{word}"'
        return Item(
            "opposite",
            self.ask("opposite", shown, follow=follow),
            f"The opposite of {word} is {other}.",
            other,
            "opposite",
            word,
        )

    def sound(self, follow: bool = False) -> Item:
        animal, sound = self.rng.choice(SOUNDS)
        return Item(
            "sound",
            self.ask("sound", animal, follow=follow),
            f"A {animal} says {sound}.",
            sound,
            "sound",
            animal,
        )

    def legs(self, follow: bool = False) -> Item:
        animal, count = self.rng.choice(LEGS)
        article = "An" if animal[0] in "aeiou" else "A"
        text = self.ask("legs", animal, follow=follow).replace(" a ant", " an ant")
        return Item(
            "legs", text, f"{article} {animal} has {count} legs.", count, "legs", animal, int(count)
        )

    def neighbour(self, follow: bool = False) -> Item:
        names = self.rng.choice((facts.DAYS, facts.MONTHS, list("ABCDEFGHIJKLMNOPQRSTUVWXYZ")))
        i = (
            self.rng.randrange(len(names) - 1)
            if len(names) == 26
            else self.rng.randrange(len(names))
        )
        if self.rng.random() < 0.6 or follow:
            other, kind = names[(i + 1) % len(names)], "after"
        else:
            i = max(i, 1)
            other, kind = names[i - 1], "before"
        return Item(
            "neighbour",
            self.ask(kind, names[i]),
            f"{other} comes {kind} {names[i]}.",
            other,
            "answer",
        )

    def pair(self) -> tuple[int, int]:
        top = self.rng.choice((9, 20, 20))
        while True:
            a, b = self.rng.randint(0, top), self.rng.randint(0, top)
            if held_sum(a, b) == self.held:
                return a, b

    def sums(self, follow: bool = False) -> Item:
        a, b = self.pair()
        roll = 0.0 if self.held else self.rng.random()
        if roll < 0.6:
            kind, sign, result = "plus", "+", a + b
        elif roll < 0.85:
            a, b = max(a, b), min(a, b)
            kind, sign, result = "minus", "-", a - b
        else:
            a, b = self.rng.randint(0, 10), self.rng.randint(0, 10)
            kind, sign, result = "times", "*", a * b
        text = (
            self.rng.choice(
                ("And {} {} {}?", "and {} {} {}?", "{} {} {}?", "What about {} {} {}?")
            ).format(a, sign, b)
            if follow
            else self.ask(kind, str(a), str(b))
        )
        return Item(
            "sum",
            text,
            f"{a} {sign} {b} = {result}.",
            str(result),
            "result",
            f"{a} {sign} {b}",
            result,
        )

    def bigger(self, follow: bool = False) -> Item:  # noqa: ARG002 - called as its like
        top = self.rng.choice((9, 20, 99))
        a, b = self.rng.sample(range(top + 1), 2)
        return Item(
            "bigger",
            self.ask("bigger", str(a), str(b)),
            f"{max(a, b)} is bigger than {min(a, b)}.",
            str(max(a, b)),
            "bigger",
            json_value=max(a, b),
        )

    def check(self, follow: bool = False) -> Item:  # noqa: ARG002 - called as its like
        country, city, _, _ = self.rng.choice(COUNTRIES)
        name = with_the(country)
        if self.rng.random() < 0.5:
            return Item(
                "check",
                self.ask("check", name, city),
                f"Yes, {city} is the capital of {name}.",
                "Yes",
                "answer",
                json_value=True,
            )
        other = self.rng.choice([c for _, c, _, _ in COUNTRIES if c != city])
        return Item(
            "check",
            self.ask("check", name, other),
            f"No, the capital of {name} is {city}.",
            "No",
            "answer",
            json_value=False,
        )

    def spell(self, follow: bool = False) -> Item:
        r = self.rng
        while True:
            word = (
                self.values.made_up()
                if self.held or r.random() < 0.55
                else r.choice(r.choice((NOUNS, ADJECTIVES)))
            )
            if len(word) <= 10:
                break
        word = r.choice((word, word, word, word.capitalize()))
        letters = "-".join(word)
        return Item(
            "spell", self.ask("spell", word, follow=follow), letters, letters, "letters", word
        )

    def any(self, follow: bool = False, kind: str | None = None) -> Item:
        """An item of a kind chosen by weight, or of the given kind."""
        kinds = (
            "capital",
            "country",
            "continent",
            "language",
            "colour",
            "opposite",
            "sound",
            "legs",
            "neighbour",
            "sums",
            "bigger",
            "check",
            "spell",
        )
        weights = (9, 3, 2.5, 2.5, 5, 7, 1.5, 1.5, 5, 14, 3, 3, 8)
        return getattr(self, kind or self.rng.choices(kinds, weights)[0])(follow=follow)

    def around(self, text: str) -> str:
        """The question as people dress it: a greeting before, a thank you after, no capital, no question mark."""
        r = self.rng
        roll = r.random()
        if self.held:
            return (
                r.choice(("", "", "Hey there, ", "So, "))
                + text
                + r.choice(("", "", "", " Thank you."))
            )
        if roll < 0.52:
            return text
        if roll < 0.60:
            return text.lower()
        if roll < 0.62:
            return r.choice(("Hello!\n", "Hi,\n\n", "Please answer:\n", "Question:\n")) + text
        if roll < 0.72:
            return (
                r.choice(
                    (
                        "Please tell me: ",
                        "Hi! ",
                        "Hello. ",
                        "Quick question: ",
                        "Question: ",
                        "Tell me: ",
                        "Hey, ",
                        "Please, ",
                        "OK. ",
                        "Well, ",
                        "Now, ",
                        "Now: ",
                        "And ",
                        "Excuse me, ",
                        "Next question: ",
                        "Hello there! ",
                        "Good morning. ",
                        "I wonder: ",
                    )
                )
                + text
            )
        if roll < 0.80:
            return text + r.choice(
                (
                    " Thanks.",
                    " Please.",
                    " Thanks!",
                    " please",
                    " Thank you!",
                    " Please answer.",
                    " I want to know.",
                )
            )
        if roll < 0.90:
            return text[0].lower() + text[1:]
        return text.rstrip("?.") if len(text) > 8 else text
