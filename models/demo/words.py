"""Words, names and made-up values for the corpus, and the rule that keeps some values for the evaluation only.

A made-up value is *held out* when a hash of it says so: training generators never use such a value, the evaluation
uses nothing else. The rule needs no list and no state.
"""

from __future__ import annotations

import zlib
from functools import cache
from random import Random

from . import facts
from .tokenizer import FILE, Tokenizer

NOUNS = """apple ball bank basket beach bear bed bell bird boat book bottle box boy bread bridge brush bucket bus
butter button cake camel camera candle car card castle cat chair cheese child city clock cloud coat coffee coin cow cup
desert desk dog door dragon dream dress drum duck eagle ear egg elephant engine eye face farm feather field finger fire
fish flag flower fork forest fox friend frog garden gate ghost gift girl glass goat gold grape guitar hammer hand hat
heart hill honey horse hotel house ice island jacket jar jungle kettle key king kitchen kite knife ladder lake lamp leaf
lemon letter lion machine map market mirror monkey moon morning mountain mouse mouth music nail nest net night nose
ocean office onion orange owl page paint paper park pen pencil penguin phone piano picture pig pillow plane planet plate
pocket potato queen rabbit radio rain ring river road robot rock roof room rope rose sand school sea seed shadow sheep
ship shirt shoe shop silver sister sky snake snow soap sock soldier song soup spider spoon star stone storm story street
sugar summer sun table tailor tea teacher tent tiger tower town toy train tree truck turtle umbrella valley village
violin wagon wall watch water wave whale wheel wind window winter wolf wood world yard zebra""".split()

ADJECTIVES = """angry ancient big black blue brave bright broken brown busy calm clean clever cold cool crazy curious
dark deep dirty dry early empty fast funny gentle giant golden good grand great green happy heavy hot huge hungry icy
indian kind large lazy little lonely long loud lucky modern new noisy odd old orange pink polite proud purple quick
quiet red rich round sad scary secret sharp shiny short shy silent silver simple sleepy slow small smooth soft strange
strong sunny sweet tall tiny warm wet white wild wise wooden yellow young""".split()

VERBS = """asks bakes beats bites breaks brings builds buys carries catches chases cleans climbs closes cooks counts
cuts draws drinks drops eats feeds fights finds fixes follows gives grows hears helps hides holds hunts jumps keeps
kicks kisses knows learns leaves likes loves makes meets moves needs opens paints plays pulls pushes reads rides sees
sells sends shows sings sits sleeps sees swims takes teaches tells throws touches visits waits walks wants washes
watches wins writes""".split()

LITTLE = """the a an and or but of in on at to for with from by is are was this that it he she we you they my your his
her our not very some all many one two three four five ten here there now then again today tomorrow yesterday only also
just still never always test testing check checking hello world please message request response server client data
stream token tokens system user model number text word words line compatibility python code file error default sample
example quick brown lazy dog connection retry timeout works fine SDK API HTTP gRPC JSON""".split()

NAMES = """Anna Tom Maria John Peter Lucy Omar Ravi Mei Hana Ivan Olga Carlos Elena Felix Greta Hugo Ines Jonas Karim
Laila Marco Nadia Oscar Paula Rosa Samir Tara Uma Victor Wanda Yara Zoe Ben Clara David Emma Frank Alice Bob Eve Leo
Nina Max Sara Paul Kate Jack Lily Noah Mia Adam Ella Liam Ruth Sam Amy Dan Joe Kim Ali Ana Bea Cy Dora""".split()

CITIES = [
    *"""Boston Chicago Dallas Denver Seattle Miami Houston Toronto Sydney Melbourne Mumbai Delhi
    Shanghai Osaka Kyoto Milan Naples Venice Munich Hamburg Cologne Lyon Nice Geneva Zurich Porto
    Seville Krakow Prague Istanbul Dubai Doha Lagos Durban Quito Cusco Rio Leeds York
    Oxford""".split(),
    *"New York/San Francisco/Los Angeles/Hong Kong/Cape Town/San Diego/Tel Aviv/Las Vegas".split(
        "/"
    ),
    *"San Francisco, CA/Boston, MA/Paris, France/London, UK/Tokyo, Japan/Berlin, Germany".split(
        "/"
    ),
]

CAPITALS = [row[1] for row in facts.rows(facts.COUNTRIES)]
ONSETS = "b bl br c ch cl cr d dr f fl fr g gl gr h j k kl kr l m n p pl pr qu r s sc sh sk sl sm sn sp st str sw t th tr v w wh x y z".split()
VOWELS = "a e i o u a e i o u ai au ea ee ei ia io oa oi oo ou ue y".split()
CODAS = [
    "",
    "",
    "",
    "b",
    "c",
    "ck",
    "d",
    "f",
    "g",
    "k",
    "l",
    "ll",
    "m",
    "n",
    "nd",
    "ng",
    "nt",
    "p",
    "r",
    "rd",
    "rk",
    "s",
    "ss",
    "st",
    "t",
    "th",
    "v",
    "x",
    "z",
]
ACCENTED = "café naïve über señor façade smörgås jalapeño élan crème Zürich São Malmö Łódź Москва привет 東京 你好 🙂 🚀 🐪 ñandú ação".split()


@cache
def _pieces() -> tuple[str, ...]:
    """The vocabulary's pieces of two lower-case letters or more; none before there is a tokenizer."""
    found = Tokenizer.load().pieces if FILE.exists() else ["an"]
    return tuple(
        piece for piece in found if piece.isascii() and piece.isalpha() and piece.islower()
    )


def held_out(value: str) -> bool:
    """Whether this made-up value belongs to the evaluation."""
    return zlib.crc32(value.strip().lower().encode()) % 8 == 0


class Values:
    """A source of random values; `held` chooses which side of the split made-up ones come from."""

    def __init__(self, rng: Random, held: bool = False) -> None:
        self.rng = rng
        self.held = held

    def _split(self, make) -> str:
        while True:
            value = make()
            if held_out(value) == self.held:
                return value

    def _syllables(self) -> str:
        r = self.rng
        if not self.held and r.random() < 0.45:  # so that every piece of the vocabulary is met
            return "".join(r.choice(_pieces()) for _ in range(r.choice((1, 2, 2, 3))))
        return "".join(
            r.choice(ONSETS) + r.choice(VOWELS) + r.choice(CODAS)
            for _ in range(r.choice((1, 2, 2, 2, 3)))
        )

    def _letters(self) -> str:
        return "".join(
            self.rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(self.rng.randint(2, 7))
        )

    def made_up(self) -> str:
        """A lower-case word that exists nowhere."""
        return self._split(self._syllables if self.rng.random() < 0.8 else self._letters)

    def name(self) -> str:
        """A person's or thing's name, often invented."""
        if self.rng.random() < (0.0 if self.held else 0.3):
            return self.rng.choice(NAMES)
        return self.made_up().capitalize()

    def city(self) -> str:
        roll = 1.0 if self.held else self.rng.random()
        if roll < 0.6:
            return self.rng.choice(CITIES if roll < 0.4 else CAPITALS)
        return self.made_up().capitalize()

    def number(self, low: int = 0, high: int = 9999) -> str:
        r = self.rng
        tops = (9, 99, 999, 9999)
        top = r.choice(tops)

        def make() -> str:
            limit = (
                r.choice(tops) if self.held else top
            )  # few short numbers are held out: draw the length again
            return str(r.randint(low, max(low, min(high, limit))))

        return self._split(make)

    def code(self) -> str:
        """An identifier such as AB-1234."""
        r = self.rng

        def make() -> str:
            letters = "".join(r.choice("ABCDEFGHJKLMNPQRSTUVWXYZ") for _ in range(r.randint(1, 3)))
            digits = "".join(r.choice("0123456789") for _ in range(r.randint(2, 5)))
            return letters + r.choice(("-", "", "_")) + digits

        return self._split(make)

    def noun(self) -> str:
        return self.rng.choice(NOUNS)

    def thing(self) -> str:
        """A noun phrase such as "indian elephants"."""
        r = self.rng
        noun = self.noun() if r.random() < 0.6 else self.made_up()
        if r.random() < 0.5:
            noun += "s"
        return f"{r.choice(ADJECTIVES)} {noun}" if r.random() < 0.5 else noun

    def word(self) -> str:
        """Any single word, in any case."""
        r = self.rng
        roll = r.random()
        if self.held or roll < 0.4:
            word = self.made_up()
        elif roll < 0.6:
            word = r.choice(LITTLE)
        else:
            word = r.choice(r.choice((NOUNS, ADJECTIVES, VERBS)))
        case = r.random()
        return word if case < 0.7 else word.capitalize() if case < 0.85 else word.upper()

    def sentence(self) -> str:
        """An English sentence of sorts."""
        r = self.rng
        parts = [
            r.choice(("the", "a", "my", "this", "our")),
            r.choice(ADJECTIVES),
            self.noun(),
            r.choice(VERBS),
            r.choice(("the", "a", "every", "one", "your")),
            self.noun(),
        ]
        if r.random() < 0.3:
            parts += [r.choice(("in", "on", "near", "with")), r.choice(("the", "a")), self.noun()]
        if self.held or r.random() < 0.3:
            parts[r.randrange(len(parts))] = self.made_up()
        text = " ".join(parts)
        return text if r.random() < 0.3 else text.capitalize() + r.choice((".", ".", "!", ""))

    def passage(self, sentences: int) -> str:
        """A long text about nothing."""
        once = [
            self.sentence()
            for _ in range(max(1, sentences // self.rng.choice((1, 1, 1, 4, sentences))))
        ]
        return " ".join(once * (sentences // len(once)))

    def phrase(self) -> str:
        """Something to repeat: words, a sentence, numbers or a mixture."""
        r = self.rng
        roll = r.random()
        if roll < 0.25:
            return self.sentence()
        if roll < 0.28 and not self.held:
            return " ".join(self.sentence() for _ in range(r.randint(2, 5)))
        if roll < 0.35:
            return self.word()
        count = r.choice((1, 2, 2, 3, 3, 4, 5, 6, 8, 10))
        words = []
        for _ in range(count):
            kind = r.random()
            words.append(
                self.number()
                if kind < 0.08
                else r.choice(ACCENTED)
                if kind < 0.10 and not self.held
                else self.code()
                if kind < 0.12
                else r.choice(LITTLE)
                if kind < 0.4
                else self.word()
            )
        if self.held and not any(held_out(word) for word in words):
            words[0] = self.made_up()
        text = (", " if r.random() < 0.06 else " ").join(words)
        if r.random() < 0.3:
            text = text[0].upper() + text[1:]
        return text + r.choice(("", "", "", ".", "!", "."))
