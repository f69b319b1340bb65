"""The guests of a soak over a real model: what they ask for, how they read, what they must find."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from jsonschema import Draft202012Validator

from bench.prompts import text as words
from protos.inference.v1 import inference_pb2 as pb
from services.llama.constrain import Constraints
from services.llama.engine import Engine
from services.llama.interface import Chunk, DecodeError, Grammar, Logits, NoRoomError, Vocabulary
from services.llama.job import Job, OutputParams, Resumed, StopParams
from services.llama.lookup import SpeculationParams
from services.llama.runtime.llama import LlamaRuntime
from services.llama.sampling import Dry, Mirostat, SamplingParams, Xtc
from services.llama.stream import Finish, Streams
from services.worker.errors import DeadlineExceeded
from tests.llama.engine_kit import until
from tests.llama.soak_checks import Answer, Told, check_logprobs, check_text, check_usage

CONTEXT = 240
# Guests in the house at once: those who read as it comes, and those who lie down meanwhile.
_PLACES, _COUCHES = 40, 3
# How many others a lazy guest lets go before it reads on.
_NAP = 15
# What a lazy guest asks for: more than a reader may be behind.
_LONG = 110

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 4},
        "kind": {"enum": ["camel", "horse"]},
        "legs": {"type": "integer", "minimum": 0, "maximum": 9},
        "wells": {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 2},
    },
    "required": ["name", "kind", "legs", "wells"],
    "additionalProperties": False,
}
CHOICES = ("Paris", "Rome is far", "Rome", "Oslo")


def _of_schema(text: str) -> bool:
    return bool(Draft202012Validator(SCHEMA).is_valid(json.loads(text)))


def _matches(pattern: str) -> Callable[[str], bool]:
    return lambda text: re.fullmatch(pattern, text) is not None


_CONSTRAINTS: tuple[tuple[pb.Constraint, Callable[[str], bool]], ...] = (
    (pb.Constraint(json_schema=json.dumps(SCHEMA)), _of_schema),
    (pb.Constraint(json_object=True), lambda text: isinstance(json.loads(text), dict)),
    (pb.Constraint(regex="[a-c]{3}-[0-9]{2,9}"), _matches("[a-c]{3}-[0-9]{2,9}")),
    (pb.Constraint(choice=pb.ChoiceList(values=CHOICES)), lambda text: text in CHOICES),
    (pb.Constraint(gbnf='root ::= ("yes" | "no") [!?] [0-9]* "."'), _matches(r"(yes|no)[!?]\d*\.")),
    (pb.Constraint(lark='start: /[xyz]{2,9}/ "end"'), _matches("[xyz]{2,9}end")),
)


@dataclass(frozen=True, slots=True)
class Guest:
    """A job and how its reader behaves. Moments are numbers of tokens that have come."""

    job: Job
    # What a constrained text that ended by itself must be.
    valid: Callable[[str], bool] | None = None
    # Of a conversation: each asks with all that was said before.
    turns: int = 1
    # It goes away for good.
    leaves_after: int | None = None
    # It goes on elsewhere with what it has.
    cut_after: int | None = None
    # Passes of the loop between two looks.
    slow: int = 0
    # It stops reading until many others have come and gone.
    lazy: bool = False
    # Seconds.
    deadline: float | None = None


class Moody:
    """A runtime that sometimes has no room where it should, and fails when it is told to."""

    def __init__(self, runtime: LlamaRuntime) -> None:
        self._runtime = runtime
        self.calls = self.refused = 0
        # A batch of several is refused each so many calls; 0: never.
        self.refuses_each = 0
        # Calls that fail, after the model has evaluated the batch or before, and who hears of it.
        self.fail_at: set[int] = set()
        self.fails_late = False
        self.on_failure: Callable[[], None] = lambda: None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runtime, name)

    def decode(self, chunks: Sequence[Chunk]) -> list[list[Logits]]:
        self.calls += 1
        if self.refuses_each and self.calls % self.refuses_each == 0 and len(chunks) > 1:
            self.refused += 1
            raise NoRoomError
        fails = self.calls in self.fail_at
        rows = [] if fails and not self.fails_late else self._runtime.decode(chunks)
        if fails:
            self.on_failure()
            raise DecodeError("told to")
        return rows


def guests(random: Random, count: int, vocabulary: Vocabulary, adapter: str) -> list[Guest]:
    """The same for the same random numbers."""
    constraints = Constraints(vocabulary)
    compiled = [(constraints.compile(constraint), valid) for constraint, valid in _CONSTRAINTS]
    return [_guest(random, number, vocabulary, compiled, adapter) for number in range(count)]


def _guest(
    random: Random,
    number: int,
    vocabulary: Vocabulary,
    grammars: Sequence[tuple[Grammar, Callable[[str], bool]]],
    adapter: str,
) -> Guest:
    grammar, valid = random.choice(grammars) if random.random() < 0.3 else (None, None)
    strings = () if grammar and random.random() < 0.9 else random.choice(((), (), ("a", "BA BE")))
    job = Job(
        _prompt(random, number, vocabulary),
        choices=random.choice(((0,), (0,), (0,), (0, 1), (0, 1, 2))),
        sampling=_sampling(random, vocabulary),
        stop=StopParams(
            max_tokens=120 if grammar else random.choice((0, 1, 5, 20, 20, 40, 80, None)),
            min_tokens=random.choice((0, 0, 0, 3)),
            strings=strings,
            token_ids=frozenset() if grammar else random.choice((frozenset(), _some(random))),
            include_matched=random.random() < 0.3,
        ),
        output=OutputParams(
            token_ids=True,
            logprobs=random.random() < 0.2,
            top_logprobs=random.choice((0, 2)),
            prompt_logprobs=random.random() < 0.1,
        ),
        speculation=SpeculationParams(
            enabled=random.random() < 0.8, max_ngram=random.choice((1, 2, 3))
        ),
        grammar=grammar,
        tenant=random.choice(("", "a", "b", f"t{number}")),
        priority=random.choice((-1, 0, 0, 0, 2)),
        namespace=random.choice(("", "", "", "other")),
        adapter=random.choice(("", "", "", "", "", adapter)),
    )
    guest = Guest(job, valid, slow=random.choice((0, 0, 0, 3, 40)))
    match random.choices(
        ("stays", "leaves", "cut", "hurried", "lazy", "talks"), (45, 15, 18, 8, 2, 12)
    ):
        case ["leaves"]:
            return replace(guest, leaves_after=random.choice((0, 0, 1, random.randint(2, 40))))
        case ["cut"]:
            return replace(guest, cut_after=random.choice((0, 1, random.randint(2, 60))))
        case ["hurried"]:
            return replace(guest, deadline=random.choice((0.0, 0.005, 0.05, 0.5)))
        case ["lazy"]:
            stop = StopParams(max_tokens=_LONG, ignore_eos=True)
            job = replace(job, choices=(0,), stop=stop, grammar=None, prompt=job.prompt[:120])
            return Guest(job, lazy=True)
        case ["talks"]:
            stop = replace(job.stop, max_tokens=random.randint(1, 24))
            job = replace(job, choices=(0,), stop=stop, grammar=None, prompt=job.prompt[:120])
            return replace(guest, job=job, valid=None, turns=random.choice((2, 3)))
        case _:
            return guest


def _prompt(random: Random, number: int, vocabulary: Vocabulary) -> list[int]:
    """The beginning of one of three system prompts, and often a question."""
    system = random.choice(
        (words(90, "one"), words(40, "one") + words(50, "two"), (words(5, "three") + " ") * 12)
    )
    tokens = vocabulary.tokenize(system, parse_special=False)[: random.choice((1, 30, 60, 90))]
    question = random.choice(("", words(4, "question"), words(random.randint(1, 30), number)))
    return tokens + vocabulary.tokenize(question, parse_special=False)


def _some(random: Random) -> frozenset[int]:
    """A twentieth of the tokens."""
    return frozenset(range(random.randrange(20), 2048, 20))


def _sampling(random: Random, vocabulary: Vocabulary) -> SamplingParams:
    seed = random.randrange(4)
    few = {random.randrange(300, vocabulary.size - 3): 30.0 for _ in range(6)}
    return random.choice(
        (
            SamplingParams(temperature=0.0),
            SamplingParams(temperature=0.0),
            # It has little to say and repeats itself: guesses come true.
            SamplingParams(temperature=0.0, logit_bias=few),
            SamplingParams(temperature=0.0, presence_penalty=0.5, repetition_penalty=1.1),
            SamplingParams(seed=seed),
            SamplingParams(seed=seed, temperature=0.8, top_k=40, top_p=0.95, min_p=0.05),
            SamplingParams(seed=seed, logit_bias=few, dry=Dry(0.8), frequency_penalty=0.2),
            SamplingParams(seed=seed, typical_p=0.9, xtc=Xtc(0.5)),
            SamplingParams(seed=seed, mirostat=Mirostat(version=2, tau=3.0)),
        )
    )


class House:
    """Lets the guests in, a few dozen at a time, and looks at what they were told."""

    def __init__(self, engine: Engine, vocabulary: Vocabulary) -> None:
        self._engine = engine
        self._vocabulary = vocabulary
        self._places = asyncio.Semaphore(_PLACES)
        self._couches = asyncio.Semaphore(_COUCHES)
        # Of those who are not lazy.
        self._gone = self._to_come = 0
        self.answers: list[Answer] = []
        # What happened how often.
        self.seen: Counter[str] = Counter()

    async def entertain(self, everyone: Sequence[Guest]) -> None:
        """Until all are gone. Raises what one of them failed with."""
        self._to_come += sum(not guest.lazy for guest in everyone)
        async with asyncio.TaskGroup() as group:
            for guest in everyone:
                group.create_task(self._visit(guest))

    async def _visit(self, guest: Guest) -> None:
        async with self._couches if guest.lazy else self._places:
            try:
                await self._stay(guest)
            except DeadlineExceeded:
                assert guest.deadline is not None
                self.seen["late"] += 1
            finally:
                self._gone += not guest.lazy
                self._to_come -= not guest.lazy

    async def _stay(self, guest: Guest) -> None:
        job = guest.job
        for turn in range(guest.turns):
            if guest.deadline is not None:
                job = replace(job, deadline=time.monotonic() + guest.deadline)
            told = {choice: Told() for choice in job.choices}
            goes = guest.leaves_after if guest.cut_after is None else guest.cut_after
            if not await self._read(job, told, guest, goes):
                if guest.cut_after is None:
                    self.seen["left"] += 1
                    return
                self.seen["resumed"] += 1
                rest = _rest(job, told)
                assert await self._read(rest, told, guest, None)
            self._check(job, told, guest)
            self.seen["turns"] += turn > 0
            said = [token for token in told[0].ids if token not in self._vocabulary.ends]
            asked = self._vocabulary.tokenize(f" And {turn}?", parse_special=False)
            job = replace(job, prompt=[*job.prompt, *said, *asked])

    async def _read(self, job: Job, told: dict[int, Told], guest: Guest, most: int | None) -> bool:
        """Whether all choices came to their end; False: `most` tokens have come, and that is all."""
        streams = self._engine.submit(job)
        taken = 0
        try:
            if guest.lazy:
                await self._nap(streams)
            while any(told[choice].ended is None for choice in job.choices):
                if most is not None and taken >= most:
                    return False
                choice, delta = await streams.next()
                told[choice].add(delta)
                taken += len(delta.token_ids)
                for _ in range(guest.slow):
                    await asyncio.sleep(0)
        finally:
            # Also of one that has ended, as the worker does it.
            self._engine.cancel(streams)
        return True

    async def _nap(self, streams: Streams) -> None:
        (stream,) = streams.all
        await until(lambda: stream.paused)
        self.seen["paused"] += 1
        woken = self._gone + _NAP
        await until(lambda: self._gone >= woken or not self._to_come)

    def _check(self, job: Job, told: dict[int, Told], guest: Guest) -> None:
        for choice, one in told.items():
            assert one.ended is not None
            check_text(job, one, self._vocabulary, CONTEXT)
            check_usage(job, one, resumed=guest.cut_after is not None)
            check_logprobs(job, one, first=choice == 0)
            by_itself = one.ended.reason is Finish.STOP and not one.ended.matched_stop
            if guest.valid is not None and by_itself:
                assert guest.valid(one.text), one.text
                self.seen["valid"] += 1
        self.seen["done"] += 1
        self.answers.append(Answer(job, told))


def _rest(job: Job, told: dict[int, Told]) -> Job:
    """What another worker is asked for."""
    left = {choice: one for choice, one in told.items() if one.ended is None}
    resumed = {c: Resumed(tuple(one.ids), one.delivered) for c, one in left.items() if one.ids}
    wants = job.output.prompt_logprobs and not any(one.of_prompt for one in told.values())
    output = replace(job.output, prompt_logprobs=wants)
    return replace(job, choices=tuple(left), resumed=resumed, output=output)
