"""Questions with one right answer: capitals, sums, spelling, colours and the like, in many phrasings.

Each kind of question has phrasings to train on and held-out phrasings that only the evaluation uses.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from random import Random

from . import facts
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
        return json.dumps({self.key: self.short if self.json_value is None else self.json_value}, ensure_ascii=False)


ASKS: dict[str, tuple[str, ...]] = {
    "capital": (
        "What is the capital of {}?", "What's the capital of {}?", "what is the capital of {}", "Capital of {}?",
        "Name the capital of {}.", "Tell me the capital of {}.", "The capital of {}?", "Which city is the capital of {}?",
        "What city is the capital of {}?", "capital of {}", "Do you know the capital of {}?",
        "Give me the capital of {}.", "What is {}'s capital?", "What is the capital city of {}?",
        "I need the capital of {}.", "Which city is {}'s capital?", "The capital of {} is", "Say the capital of {}.",
        "What is the name of the capital of {}?", "Could you name the capital of {}?",
        "I want to know the capital of {}.", "Can you tell me the capital of {}?",
        "What would you say is the capital of {}?", "In which city is the government of {}?", "{}: what is its capital?",
    ),
    "country": (
        "Which country has the capital {}?", "{} is the capital of which country?", "What country is {} the capital of?",
        "Of which country is {} the capital?", "Which country's capital is {}?", "In which country is {}?",
        "What country is {} in?", "{} is the capital of what?", "Name the country whose capital is {}.",
    ),
    "continent": (
        "On which continent is {}?", "Which continent is {} in?", "What continent is {} on?", "Where is {}?",
        "In what part of the world is {}?", "Name the continent of {}.", "Where in the world is {}?",
    ),
    "language": (
        "What language is spoken in {}?", "Which language do people speak in {}?", "What do they speak in {}?",
        "What is the language of {}?", "Name the language of {}.", "Which language is spoken in {}?",
    ),
    "colour": (
        "What colour is {}?", "What color is {}?", "Which colour is {}?", "Which color is {}?", "what color is {}",
        "Tell me the colour of {}.", "Tell me the color of {}.", "What is the colour of {}?", "What is the color of {}?",
        "Name the colour of {}.", "Do you know what color {} is?", "Do you know what colour {} is?",
        "What's the color of {}?", "What colour does {} have?",
    ),
    "opposite": (
        "What is the opposite of {}?", "What's the opposite of {}?", "Opposite of {}?", "opposite of {}",
        "The opposite of {}?", "Name the opposite of {}.", "Tell me the opposite of {}.", "Give me the opposite of {}.",
        "What word is the opposite of {}?", "Which word means the opposite of {}?", "The opposite of {} is",
        "Do you know the opposite of {}?", "What is the antonym of {}?",
    ),
    "sound": (
        "What sound does a {} make?", "What does a {} say?", "Which sound does a {} make?", "How does a {} sound?",
        "What noise does a {} make?",
    ),
    "legs": (
        "How many legs does a {} have?", "How many legs has a {}?", "Tell me how many legs a {} has.",
        "What number of legs does a {} have?",
    ),
    "after": (
        "What comes after {}?", "Which day or month comes after {}?", "What follows {}?", "What is after {}?",
        "What comes next after {}?",
    ),
    "before": (
        "What comes before {}?", "Which day or month comes before {}?", "What is just before {}?", "What comes right before {}?",
    ),
    "plus": (
        "What is {} + {}?", "{} + {}", "{}+{}", "{} + {} =", "What is {} plus {}?", "How much is {} + {}?",
        "Calculate {} + {}.", "Add {} and {}.", "What's {} + {}?", "{} plus {}", "Compute {} + {}.", "{} + {}?",
        "What do you get when you add {} and {}?", "How much is {} plus {}?", "Sum {} and {}.", "What is {}+{}?",
        "Tell me what {} + {} is.", "What is the sum of {} and {}?", "{}+{}=?", "Please add {} and {}.",
    ),
    "minus": (
        "What is {} - {}?", "{} - {}", "{}-{}", "What is {} minus {}?", "How much is {} - {}?", "Calculate {} - {}.",
        "{} minus {}", "What's {} - {}?", "{} - {} =", "Compute {} - {}.",
    ),
    "times": (
        "What is {} times {}?", "{} * {}", "{} x {}", "What is {} * {}?", "Multiply {} by {}.", "How much is {} times {}?",
        "What is {} x {}?", "Calculate {} * {}.", "{} times {}",
    ),
    "bigger": (
        "Which is bigger, {} or {}?", "Which number is bigger, {} or {}?", "What is bigger: {} or {}?", "Is {} or {} bigger?",
        "Which is larger, {} or {}?", "Which is more, {} or {}?",
    ),
    "spell": (
        "Spell {}.", "Spell {}", "Spell the word {}.", "How do you spell {}?", "How is {} spelled?", "Spell \"{}\".",
        "Please spell {}.", "Can you spell {}?", "spell {}", "Spell out {}.", "Spell the word \"{}\".",
        "Write {} letter by letter.", "What are the letters of {}?",
    ),
}

HELD_ASKS: dict[str, tuple[str, ...]] = {
    "capital": (
        "Could you please tell me what the capital of {} is?", "I forgot the capital of {}, what is it?",
        "Please name the capital city of {}.", "Which city serves as the capital of {}?", "{}'s capital city?",
        "Remind me: what is the capital of {}?", "What city is {}'s capital?", "Would you know the capital of {}?",
    ),
    "colour": ("Which color does {} have?", "Please tell me the colour of {}.", "What's the colour of {}?", "{}: what color is it?"),
    "opposite": ("Which word is the opposite of {}?", "Please give me the opposite of {}.", "Do you know what the opposite of {} is?"),
    "plus": ("Could you add {} and {}?", "What does {} + {} make?", "Please calculate {} + {}.", "How much do you get from {} plus {}?"),
    "spell": ("Please spell the word {}.", "Could you spell {} for me?", "Spell {} out letter by letter."),
}

FOLLOW = ("And of {}?", "And {}?", "and of {}?", "What about {}?", "and {}?", "{}?", "How about {}?", "And for {}?", "and what about {}?")
HELD_FOLLOW = ("Now {}?", "And what about {}?", "OK, and {}?", "What is it for {}?")

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
        if follow:
            forms = HELD_FOLLOW if self.held else FOLLOW
        else:
            forms = HELD_ASKS.get(kind, ASKS[kind]) if self.held else ASKS[kind]
        text = self.rng.choice(forms).format(*slots)
        return text[0].upper() + text[1:] if slots[0].startswith("the ") and text.startswith("the ") else text

    def capital(self, follow: bool = False) -> Item:
        country, city, _, _ = self.rng.choice(COUNTRIES)
        name = with_the(country)
        return Item("capital", self.ask("capital", name, follow=follow), f"The capital of {name} is {city}.", city, "capital", name)

    def country(self, follow: bool = False) -> Item:
        country, city, _, _ = self.rng.choice(COUNTRIES)
        full = f"{city} is the capital of {with_the(country)}."
        return Item("country", self.ask("country", city, follow=follow), full, country, "country", city)

    def continent(self, follow: bool = False) -> Item:
        country, _, continent, _ = self.rng.choice(COUNTRIES)
        full = f"{with_the(country)} is in {continent}."
        return Item("continent", self.ask("continent", with_the(country), follow=follow), full[0].upper() + full[1:], continent, "continent", country)

    def language(self, follow: bool = False) -> Item:
        country, _, _, language = self.rng.choice(COUNTRIES)
        name = with_the(country)
        return Item("language", self.ask("language", name, follow=follow), f"People in {name} speak {language}.", language, "language", country)

    def colour(self, follow: bool = False) -> Item:
        thing, colour = self.rng.choice(COLOURS)
        return Item("colour", self.ask("colour", thing, follow=follow), f"{thing.capitalize()} is {colour}.", colour, "colour", thing)

    def opposite(self, follow: bool = False) -> Item:
        word, other = self.rng.choice(OPPOSITES)
        shown = word if follow or self.rng.random() < 0.8 else f'"{word}"'
        return Item("opposite", self.ask("opposite", shown, follow=follow), f"The opposite of {word} is {other}.", other, "opposite", word)

    def sound(self, follow: bool = False) -> Item:
        animal, sound = self.rng.choice(SOUNDS)
        return Item("sound", self.ask("sound", animal, follow=follow), f"A {animal} says {sound}.", sound, "sound", animal)

    def legs(self, follow: bool = False) -> Item:
        animal, count = self.rng.choice(LEGS)
        article = "An" if animal[0] in "aeiou" else "A"
        text = self.ask("legs", animal, follow=follow).replace(" a ant", " an ant")
        return Item("legs", text, f"{article} {animal} has {count} legs.", count, "legs", animal, int(count))

    def neighbour(self, follow: bool = False) -> Item:
        names = self.rng.choice((facts.DAYS, facts.MONTHS, list("ABCDEFGHIJKLMNOPQRSTUVWXYZ")))
        i = self.rng.randrange(len(names) - 1) if len(names) == 26 else self.rng.randrange(len(names))
        if self.rng.random() < 0.6 or follow:
            other, kind = names[(i + 1) % len(names)], "after"
        else:
            i = max(i, 1)
            other, kind = names[i - 1], "before"
        return Item("neighbour", self.ask(kind, names[i]), f"{other} comes {kind} {names[i]}.", other, "answer")

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
        text = self.rng.choice(("And {} {} {}?", "and {} {} {}?", "{} {} {}?", "What about {} {} {}?")).format(a, sign, b) if follow else self.ask(kind, str(a), str(b))
        return Item("sum", text, f"{a} {sign} {b} = {result}.", str(result), "result", f"{a} {sign} {b}", result)

    def bigger(self, follow: bool = False) -> Item:
        top = self.rng.choice((9, 20, 99))
        a, b = self.rng.sample(range(top + 1), 2)
        return Item("bigger", self.ask("bigger", str(a), str(b)), f"{max(a, b)} is bigger than {min(a, b)}.", str(max(a, b)), "bigger", json_value=max(a, b))

    def spell(self, follow: bool = False) -> Item:
        r = self.rng
        while True:
            word = self.values.made_up() if self.held or r.random() < 0.65 else r.choice(r.choice((NOUNS, ADJECTIVES)))
            if len(word) <= 10:
                break
        word = r.choice((word, word, word, word.capitalize()))
        letters = "-".join(word)
        return Item("spell", self.ask("spell", word, follow=follow), letters, letters, "letters", word)

    def any(self, follow: bool = False, kind: str | None = None) -> Item:
        """An item of a kind chosen by weight, or of the given kind."""
        kinds = ("capital", "country", "continent", "language", "colour", "opposite", "sound", "legs", "neighbour", "sums", "bigger", "spell")
        weights = (9, 3, 2, 2, 4, 5, 1, 1, 2, 9, 1, 6)
        return getattr(self, kind or self.rng.choices(kinds, weights)[0])(follow=follow)

    def around(self, text: str) -> str:
        """The question as people dress it: a greeting before, a thank you after, no capital, no question mark."""
        r = self.rng
        roll = r.random()
        if self.held:
            return r.choice(("", "", "Hey there, ", "So, ")) + text + r.choice(("", "", "", " Thank you."))
        if roll < 0.62:
            return text
        if roll < 0.72:
            return r.choice(("Please tell me: ", "Hi! ", "Hello. ", "Quick question: ", "Question: ", "Tell me: ", "Hey, ", "Please, ", "OK. ")) + text
        if roll < 0.80:
            return text + r.choice((" Thanks.", " Please.", " Thanks!", " please"))
        if roll < 0.90:
            return text[0].lower() + text[1:]
        return text.rstrip("?.") if len(text) > 8 else text
