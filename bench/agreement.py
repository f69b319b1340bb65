"""`python -m bench.agreement`: how often greedy texts agree when they are computed in other ways.

llama.cpp's kernels are not batch-invariant: the same tokens in other batches give logits that
differ in the last bits, and where two tokens are nearly level the text turns. Every prompt is
answered alone, unbroken and without drafts; then again beside others, in other pieces, resumed,
with drafts, preempted; and the tokens are compared. Counts, not timings: a busy machine does no
harm.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random
from statistics import median
from typing import Any, cast

import orjson

from bench.conditions import conditions, describe, load_average
from bench.prompts import text as words
from common import logs
from models.demo.cases import cases
from protos.inference.v1 import inference_pb2 as pb
from services.llama import resident
from services.llama.config import LlamaSettings
from services.llama.engine import Engine, EngineLimits
from services.llama.interface import Chunk, Logits, NoRoomError, Runtime
from services.llama.job import Job, OutputParams, Resumed, StopParams
from services.llama.load import Metrics
from services.llama.lookup import SpeculationParams
from services.llama.plan import DRAFTS
from services.llama.resident import Loaded
from services.llama.runtime.llama import LlamaRuntime
from services.llama.sampling import SamplingParams
from services.llama.stream import Streams
from services.worker.backend import StartupError

DEMO = Path(__file__).resolve().parent.parent / "models" / "caravan-demo.gguf"
# Words of a prompt for a model that understands none: about 130 tokens.
_WORDS = 100
# Prompt tokens of a step in which others generate: the worker's default.
_BUSY_PREFILL = 384
_ROLES = {"system": pb.ROLE_SYSTEM, "user": pb.ROLE_USER, "assistant": pb.ROLE_ASSISTANT}


@dataclass(frozen=True, slots=True)
class Way:
    """One way of computing all texts."""

    name: str
    # Texts made at once.
    together: int = 1
    # Whether another sequence, which is nobody's text, runs beside.
    accompanied: bool = False
    # Prompt tokens of a step.
    prefill: int = 512
    # Rows of a batch up to which drafts are evaluated.
    drafts: int = 0
    # Whether each goes on from a position of the first text, drawn at random, in a new engine …
    resumes: bool = False
    # … or gives its cells up there and comes in again. It must be accompanied.
    preempted: bool = False
    # Bytes of host memory for what was in the cells.
    parked: int = 0


ALONE = Way("alone")
WAYS = (
    replace(ALONE, name="alone once more"),
    Way("beside 1 other", accompanied=True),
    Way("beside 7 others", together=8),
    Way("prefill in pieces of 32", prefill=32),
    Way("resumed at a random position", resumes=True),
    Way("with drafts", drafts=DRAFTS),
    Way("preempted at a random position, beside 1 other", accompanied=True, preempted=True),
    Way(
        "the same, its cells parked in host memory",
        accompanied=True,
        preempted=True,
        parked=2**30,
    ),
)


@dataclass(frozen=True, slots=True)
class Text:
    """The tokens of one answer, its end token included."""

    tokens: tuple[int, ...]
    # Drafted, and of these, right.
    drafted: int = 0
    accepted: int = 0


@dataclass(frozen=True, slots=True)
class Agreement:
    """How texts made in one way compare with the first ones."""

    texts: int
    identical: int
    # Tokens that agree before the first difference, of the others; ascending.
    differ_after: tuple[int, ...]

    @property
    def share(self) -> float | None:
        """Of identical texts, 0 to 1. None: nothing was compared."""
        return self.identical / self.texts if self.texts else None

    @property
    def median(self) -> float | None:
        """Of `differ_after`."""
        return median(self.differ_after) if self.differ_after else None


def first_difference(one: Sequence[int], other: Sequence[int]) -> int | None:
    """The first position at which they differ, or one has ended; None: they are equal."""
    for position, (mine, yours) in enumerate(zip(one, other, strict=False)):
        if mine != yours:
            return position
    return None if len(one) == len(other) else min(len(one), len(other))


def compare(pairs: Iterable[tuple[Sequence[int], Sequence[int]]]) -> Agreement:
    """Pairs of the first and the other text."""
    found = [first_difference(one, other) for one, other in pairs]
    differ = sorted(position for position in found if position is not None)
    return Agreement(len(found), len(found) - len(differ), tuple(differ))


def cut(tokens: Sequence[int], random: Random) -> int | None:
    """How many of a text's tokens are kept: some, not all. None: there is nothing between."""
    return random.randint(1, len(tokens) - 1) if len(tokens) > 1 else None


def groups(count: int, size: int) -> Iterator[range]:
    """All numbers below the count, `size` at a time."""
    for start in range(0, count, size):
        yield range(start, min(count, start + size))


def table(rows: Mapping[str, tuple[Agreement, str]]) -> str:
    """Markdown; each way's agreement and what happened besides."""
    lines = ["| computed | texts | identical | first difference after (median, range) | |"]
    lines.append("|---|---|---|---|---|")
    for name, (found, besides) in rows.items():
        share = "—" if found.share is None else f"{found.identical} ({100 * found.share:.3g} %)"
        after = "—"
        if found.differ_after:
            after = f"{found.median:g} tokens ({found.differ_after[0]} to {found.differ_after[-1]})"
        lines.append(f"| {name} | {found.texts} | {share} | {after} | {besides} |")
    return "\n".join(lines)


def questions(count: int, seed: int) -> list[pb.ChatInput]:
    """What the demo model is evaluated with, without tools; every kind, in an order by the seed."""
    # Six kinds have as many as are asked for, the others a quarter of that.
    drawn = [case.chat for case in cases(seed, count // 6 + 1) if not case.chat.tools]
    chosen = []
    for chat in Random(seed).sample(drawn, count):
        made = pb.ChatInput(enable_thinking=chat.think)
        for message in chat.messages:
            made.messages.add(role=_ROLES[message["role"]]).content.add(text=message["content"])
        chosen.append(made)
    return chosen


def nonsense(count: int, seed: int) -> list[pb.ChatInput]:
    """Words, for a model with random weights."""
    chosen = []
    for number in range(count):
        made = pb.ChatInput()
        made.messages.add(role=pb.ROLE_USER).content.add(text=words(_WORDS, seed, number))
        chosen.append(made)
    return chosen


class Laboratory:
    """Answers the same prompts in any way."""

    def __init__(self, loaded: Loaded, chats: Sequence[pb.ChatInput], job: Job, seed: int) -> None:
        """`job`: what all of them ask for, without prompts. Raises WorkerError."""
        assert isinstance(loaded.runtime, LlamaRuntime)
        self._runtime = loaded.runtime
        self._context = loaded.context
        requests = (pb.GenerateRequest(chat=chat) for chat in chats)
        # Nothing may be found in the cells of another.
        self._jobs = [
            replace(job, prompt=loaded.prompts.tokens(request), namespace=str(number))
            for number, request in enumerate(requests)
        ]
        self._seed = seed
        # Of the last way: sequences that gave up their cells, and tokens whose cells were put back.
        self.preemptions = self.restored = 0

    async def alone(self) -> list[Text]:
        """The first texts, that the others are held against."""
        return [text for job in self._jobs for text in await self._together(ALONE, [job])]

    async def again(self, way: Way, first: Sequence[Text]) -> list[Text | None]:
        """The texts made in this way; None: this one is too short for it."""
        self.preemptions = self.restored = 0
        if not (way.resumes or way.preempted):
            return [
                text
                for group in groups(len(first), way.together)
                for text in await self._together(way, [self._jobs[n] for n in group])
            ]
        return [await self._broken(way, n, text.tokens) for n, text in enumerate(first)]

    async def _broken(self, way: Way, number: int, tokens: Sequence[int]) -> Text | None:
        kept = cut(tokens, Random(f"{self._seed} {number}"))
        if kept is None:
            return None
        job = self._jobs[number]
        if way.resumes:
            job = replace(job, resumed={0: Resumed(tokens[:kept])})
        (text,) = await self._together(way, [job], kept if way.preempted else None)
        return text

    async def _together(
        self, way: Way, jobs: Sequence[Job], preempt_at: int | None = None
    ) -> list[Text]:
        """In an engine of its own, over an empty cache. `preempt_at`: tokens that have come."""
        self._runtime.reset()
        runtime = cast(Runtime, _Cramped(self._runtime, preempt_at))
        metrics = Metrics()
        limits = EngineLimits(
            self._context,
            parallel=way.together + way.accompanied,
            prefill=way.prefill,
            busy_prefill=min(way.prefill, _BUSY_PREFILL),
            drafts=way.drafts,
            parked=way.parked,
        )
        engine = Engine(runtime, limits, metrics)
        engine.start()
        companion = None
        try:
            if way.accompanied:
                # The older one: who gives way is the other. It is read, or it would be paused.
                other = self._companion(jobs[0])
                companion = asyncio.create_task(_read(engine.submit(other), other))
            streams = [engine.submit(_drafting(job, way.drafts)) for job in jobs]
            return [await _read(s, job) for s, job in zip(streams, jobs, strict=True)]
        finally:
            if companion is not None:
                companion.cancel()
            await engine.stop()
            self.preemptions += _value(metrics.preemptions)
            self.restored += _value(metrics.restored_tokens)

    def _companion(self, job: Job) -> Job:
        """Another prompt that is answered for as long as the job runs."""
        other = self._jobs[int(job.namespace) - 1]
        stop = StopParams(ignore_eos=True)
        return replace(_drafting(other, 0), namespace="companion", stop=stop)


class _Cramped:
    """A runtime that once says there is no room for several sequences."""

    def __init__(self, runtime: LlamaRuntime, refuses: int | None) -> None:
        """`refuses`: batches of several that come before."""
        self._runtime = runtime
        self._left = refuses

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runtime, name)

    def decode(self, chunks: Sequence[Chunk]) -> list[list[Logits]]:
        if self._left is not None and len(chunks) > 1:
            self._left -= 1
            if self._left < 0:
                self._left = None
                raise NoRoomError
        return self._runtime.decode(chunks)


def _drafting(job: Job, drafts: int) -> Job:
    return replace(job, speculation=SpeculationParams(enabled=drafts > 0))


async def _read(streams: Streams, job: Job) -> Text:
    resumed = job.resumed.get(0)
    tokens = list(resumed.token_ids) if resumed is not None else []
    while True:
        _, delta = await streams.next()
        tokens += delta.token_ids
        if delta.ended is not None:
            usage = delta.ended.usage
            return Text(tuple(tokens), usage.drafted, usage.accepted)


def _value(counter: Any) -> int:
    (family,) = counter.collect()
    return int(next(s.value for s in family.samples if s.name.endswith("_total")))


async def measure(
    laboratory: Laboratory, ways: Sequence[Way] = WAYS
) -> dict[str, tuple[Agreement, str]]:
    """Each way's agreement with the texts made alone, and what happened besides."""
    first = await laboratory.alone()
    total = sum(len(text.tokens) for text in first)
    print(f"alone: {len(first)} texts, {total} tokens", file=sys.stderr, flush=True)
    rows = {}
    for way in ways:
        texts = await laboratory.again(way, first)
        pairs = [(a.tokens, b.tokens) for a, b in zip(first, texts, strict=True) if b is not None]
        found = compare(pairs)
        rows[way.name] = found, besides(texts, laboratory.preemptions, laboratory.restored)
        print(f"{way.name}: {found.identical} of {found.texts}", file=sys.stderr, flush=True)
    return rows


def besides(texts: Sequence[Text | None], preemptions: int, restored: int) -> str:
    """What of drafts and preemptions there was, in words."""
    drafted = sum(text.drafted for text in texts if text is not None)
    accepted = sum(text.accepted for text in texts if text is not None)
    said = [f"{preemptions} preemptions"] if preemptions else []
    said += [f"{restored} tokens restored"] if restored else []
    said += [f"{accepted} of {drafted} drafted tokens came out"] if drafted else []
    return ", ".join(said)


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 2 where the model cannot be loaded."""
    parser = argparse.ArgumentParser(prog="python -m bench.agreement", description=__doc__)
    add = parser.add_argument
    add("--gguf", type=Path, default=DEMO, help="default: the demo model")
    add("--prompts", type=int, default=64, metavar="N")
    add("--words", action="store_true", help="prompts of words, as of a model with random weights")
    add("--max-tokens", type=int, default=128, metavar="N", help="of each text")
    add("--threads", type=int, default=0, help="default: as the worker chooses")
    add("--ctx-size", type=int, default=4096, help="KV cells")
    add("--seed", type=int, default=1)
    add("--json", type=Path, metavar="FILE")
    args = parser.parse_args(argv)
    seen = conditions()
    try:
        chats = (nonsense if args.words else questions)(args.prompts, args.seed)
        settings = LlamaSettings(
            model=str(args.gguf), threads=args.threads, parallel=8, ctx_size=args.ctx_size
        )
        source = resident.find(settings)
        loaded = resident.load(source)
    except StartupError as error:
        print(f"agreement: {error}", file=sys.stderr)
        return 2
    with contextlib.closing(loaded):
        job = Job(
            [],
            sampling=SamplingParams(temperature=0.0),
            stop=StopParams(max_tokens=args.max_tokens, ignore_eos=args.words),
            output=OutputParams(token_ids=True),
        )
        rows = asyncio.run(measure(Laboratory(loaded, chats, job, args.seed)))
    seen["load_average_after"] = load_average()
    print(
        f"{describe(seen)}\n{args.gguf.name}, {source.plan.options.threads} threads\n\n{table(rows)}"
    )
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        found = {name: asdict(row) | {"besides": said} for name, (row, said) in rows.items()}
        args.json.write_bytes(orjson.dumps({"conditions": seen, "ways": found}, option=2))
    return 0


if __name__ == "__main__":
    # Not in `main`, which tests call: it is for the process and its stderr.
    logs.configure("agreement", "warning")
    sys.exit(main())
