"""Sentences that mean the same, and triplets to measure whether embeddings notice.

A family is a way of asking; its phrasings filled with one subject mean the same, with another subject they do not.

    python -m models.demo.similar --gguf models/caravan-demo-embed.gguf     # prints the table
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np

from . import facts
from .phrases import forms
from .questions import COLOURS, COUNTRIES, LEGS, OPPOSITES, SOUNDS, Questions, with_the
from .tools import DOMAINS
from .words import NOUNS, Values

WANTED = 90.0


@dataclass(frozen=True)
class Family:
    """One meaning but for its subject."""

    name: str
    train: tuple[str, ...]
    held: tuple[str, ...]  # empty when the family has no phrasings of its own for the evaluation
    subject: Callable[[], tuple[str, ...]]


def _subject(values: Values, kind: str) -> Callable[[], tuple[str, ...]]:
    return lambda: ("7:30" if kind == "clock" else str(getattr(values, kind)()),)


class Similar:
    """Draws paraphrases; `held` draws made-up subjects from the evaluation's side."""

    def __init__(self, rng: Random, *, held: bool = False) -> None:
        self.rng = rng
        self.values = Values(rng, held)
        self.questions = Questions(rng)
        self.families = list(self._families())

    def _families(self) -> list[Family]:
        r, v = self.rng, self.values
        subjects: dict[str, Callable[[], tuple[str, ...]]] = {
            "capital": lambda: (with_the(r.choice(COUNTRIES)[0]),),
            "country": lambda: (r.choice(COUNTRIES)[1],),
            "continent": lambda: (with_the(r.choice(COUNTRIES)[0]),),
            "language": lambda: (with_the(r.choice(COUNTRIES)[0]),),
            "colour": lambda: (r.choice(COLOURS)[0],),
            "opposite": lambda: (r.choice(OPPOSITES)[0],),
            "sound": lambda: (r.choice(SOUNDS)[0],),
            "legs": lambda: (r.choice(LEGS)[0],),
            "after": lambda: (r.choice((*facts.DAYS, *facts.MONTHS)),),
            "before": lambda: (r.choice((*facts.DAYS, *facts.MONTHS)),),
            "plus": lambda: (str(r.randint(0, 20)), str(r.randint(0, 20))),
            "spell": lambda: (r.choice((r.choice(NOUNS), v.made_up())),),
        }
        found = [
            Family(
                name,
                forms(f"ask.{name}"),
                forms(f"ask.{name}", held=True)
                if name in ("capital", "colour", "opposite", "plus", "spell")
                else (),
                subject,
            )
            for name, subject in subjects.items()
        ]
        found += [
            Family(
                name,
                forms(name),
                forms(name, held=True) if name == "poem" else (),
                lambda: (v.thing(),),
            )
            for name in ("poem", "story")
        ]
        found.append(
            Family("about", forms("about"), (), lambda: (with_the(r.choice(COUNTRIES)[0]),))
        )
        for domain in DOMAINS:
            asks = tuple(ask for ask in domain.asks if "{0}" in ask and "{1}" not in ask)
            kind = domain.parameters[0][2]
            if len(asks) > 1 and kind in ("city", "thing", "name", "clock"):
                found.append(
                    Family(
                        domain.names[0],
                        asks,
                        domain.held_asks,
                        _subject(v, kind),
                    )
                )
        return found

    def fill(self, form: str, subject: tuple[str, ...]) -> str:
        return form.format(*subject)

    def pair(self) -> tuple[str, str, str]:
        """(meaning, one phrasing, another phrasing), for training."""
        r = self.rng
        if r.random() < 0.25:
            return self.rewritten()
        family = r.choice(self.families)
        subject = family.subject()
        one, other = r.sample(family.train, 2)
        q = self.questions
        return (
            f"{family.name} {subject}",
            q.around(self.fill(one, subject)),
            q.around(self.fill(other, subject)),
        )

    def rewritten(self) -> tuple[str, str, str]:
        """A sentence, and the same with small changes."""
        r = self.rng
        sentence = self.values.sentence()
        words = sentence.strip(".!").lower().split()
        if len(words) > 3 and r.random() < 0.7:
            words.pop(r.choice([i for i, w in enumerate(words) if i == 0 or len(w) < 5] or [0]))
        start = r.choice(("", "", "I think ", "They say ", "It is true that "))
        return sentence, sentence, start + " ".join(words) + r.choice(("", ".", "!"))

    def passages(self) -> tuple[str, str, str]:
        """Some sentences, and most of them again in another order."""
        sentences = [self.values.sentence() for _ in range(self.rng.randint(3, 7))]
        again = self.rng.sample(sentences, len(sentences) - 1)
        return " ".join(sentences), " ".join(sentences), " ".join(again)

    def triplet(self) -> tuple[str, str, str, str]:
        """(kind of contrast, anchor, nearer, farther) with held-out phrasings as anchors where there are any."""
        r = self.rng
        family = r.choice([f for f in self.families if f.held])
        subject = family.subject()
        anchor = r.choice(family.held)
        near = r.choice([form for form in (*family.train, *family.held) if form != anchor])
        kind = r.choice(
            (
                "same question, other subject",
                "other question, same subject",
                "other question, other subject",
            )
        )
        if kind == "same question, other subject":
            other = next(s for s in iter(family.subject, None) if s != subject)
            far = self.fill(r.choice(family.train), other)
        else:
            rivals = [f for f in self.families if f.name not in {"plus", family.name}]
            rival = r.choice(rivals)
            far = self.fill(
                r.choice(rival.train),
                subject if kind == "other question, same subject" else rival.subject(),
            )
        return kind, self.fill(anchor, subject), self.fill(near, subject), far


def measure(embed: Callable[[str], np.ndarray], count: int, seed: int) -> tuple[str, float]:
    """Table of triplet accuracy, and the accuracy over all."""
    source = Similar(Random(f"triplets {seed}"), held=True)
    right: dict[str, list[bool]] = {}
    margins = []
    for _ in range(count):
        kind, anchor, near, far = source.triplet()
        a, n, f = (v / np.linalg.norm(v) for v in map(embed, (anchor, near, far)))
        right.setdefault(kind, []).append(bool(a @ n > a @ f))
        margins.append((a @ n, a @ f))
    lines = ["| contrast | triplets | right | % |", "|---|---|---|---|"]
    for kind, found in sorted(right.items()):
        lines.append(
            f"| {kind} | {len(found)} | {sum(found)} | {100 * sum(found) / len(found):.1f} |"
        )
    total = [x for found in right.values() for x in found]
    share = 100 * sum(total) / len(total)
    near, far = np.mean(margins, axis=0)
    lines.append(
        f"| all (mean cosine {near:.2f} against {far:.2f}) | {len(total)} | {sum(total)} | {share:.1f} |"
    )
    return "\n".join(lines), share


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gguf", type=Path, required=True)
    parser.add_argument("--count", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    from .direct import embedder  # noqa: PLC0415 - needs llama_cpp

    text, share = measure(embedder(options.gguf), options.count, options.seed)
    print(text)
    return 0 if share >= WANTED else 1


if __name__ == "__main__":
    sys.exit(main())
