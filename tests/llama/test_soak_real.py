"""Thousands of mixed requests over llama.cpp and a cache that is far too small: nothing is left behind.

Kernels are not batch-invariant, so no text is compared with another. What can be checked exactly is:
texts are those of their tokens, ends and counts are right, constrained texts are valid. And every
logprob that was told is held against the model's own, computed alone afterwards: a cell of somebody
else's, or one too few, would show in it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
from llama_cpp import llama_cpp as raw

from bench.random_gguf import SHAPES, make
from services.llama.engine import Engine, EngineLimits
from services.llama.interface import Chunk, NoRoomError
from services.llama.job import Job, OutputParams, StopParams
from services.llama.load import Metrics
from services.llama.runtime.adapters import AdapterFile
from services.llama.runtime.llama import LlamaRuntime
from services.llama.runtime.loading import RuntimeOptions
from services.llama.sampling import Logprobs, SamplingParams
from services.worker.errors import EngineFailed
from tests.llama.engine_kit import until
from tests.llama.soak_checks import Answer, Told
from tests.llama.soak_kit import CONTEXT, Guest, House, Moody, guests
from tests.llama.test_adapters import lora

pytestmark = pytest.mark.real

ADAPTER = "salt"
# Bytes of host memory: a dozen states or two.
PARKED = 300_000
# Between a logprob told and that of the same tokens computed alone, for rounding.
_TOLERANCE = 0.01


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaRuntime]:
    folder: Path = tmp_path_factory.mktemp("soak")
    # Not quantized: rounding is a tenth of that.
    make(folder / "tiny.gguf", SHAPES["tiny"], "tiny", "f16", 1)
    shapes = {"blk.0.attn_v.weight": ((4, 64), (32, 4)), "blk.1.ffn_up.weight": ((4, 64), (128, 4))}
    adapter = AdapterFile(ADAPTER, lora(folder / "lora.gguf", shapes, architecture="qwen2"), 0.03)
    made = LlamaRuntime(
        folder / "tiny.gguf",
        RuntimeOptions(
            cells=512,
            parallel=8,
            idle=12,
            batch_size=96,
            ubatch_size=64,
            outputs=24,
            threads=1,
            adapters=(adapter,),
        ),
    )
    yield made
    made.close()


@pytest.fixture
def moody(runtime: LlamaRuntime) -> Moody:
    runtime.reset()
    return Moody(runtime)


class Threads:
    """Those of this process, ours and the libraries'."""

    def __init__(self) -> None:
        self._before = self._now()

    def _now(self) -> tuple[set[threading.Thread], int]:
        tasks = Path("/proc/self/task")
        return set(threading.enumerate()), sum(1 for _ in tasks.iterdir()) if tasks.exists() else 0

    async def are_gone(self) -> None:
        """Waits for all that have come since."""
        known, native = self._before

        def gone() -> bool:
            ours, all_of_them = self._now()
            return ours <= known and all_of_them <= native

        await asyncio.wait_for(until(gone), 10)


def make_engine(moody: Moody, metrics: Metrics | None = None, parked: int = 0) -> Engine:
    limits = EngineLimits(
        CONTEXT,
        parallel=8,
        prefill=64,
        busy_prefill=40,
        headroom=4,
        drafts=16,
        kept=1200,
        parked=parked,
    )
    engine = Engine(moody, limits, metrics)
    engine.start()
    return engine


async def check_nothing_is_left(engine: Engine, runtime: LlamaRuntime) -> None:
    await until(lambda: engine.load.running == engine.load.waiting == 0)
    await engine.stop()
    roster, kv = engine._roster, engine._roster.kv
    assert not roster.everyone()
    assert not list(roster._fairness.tenants())
    kv.check()
    if kv._parking is not None:
        kv._parking.check()
    held = {n: sum(cells for _, cells in kv.spans(n)) for n in range(runtime.slots)}
    assert kv.slots == (0, sum(map(bool, held.values())))
    memory = runtime._memory
    ends = {n: raw.llama_memory_seq_pos_max(memory, n) for n in range(runtime.slots)}
    assert ends == {number: cells - 1 for number, cells in held.items()}
    begins = {n: raw.llama_memory_seq_pos_min(memory, n) for n in range(runtime.slots)}
    assert begins == {number: 0 if cells else -1 for number, cells in held.items()}
    # All that is not counted as used is free, and no more: filled up, there is no room for another.
    fill(runtime, max(held, key=lambda n: held[n]), max(held.values()), runtime.cells - kv.used)


def fill(runtime: LlamaRuntime, slot: int, start: int, cells: int) -> None:
    end = start + cells
    while start < end:
        count = min(runtime.batch_size, end - start)
        runtime.decode([Chunk(slot, start, [300] * count)])
        start += count
    with pytest.raises(NoRoomError):
        runtime.decode([Chunk(slot, start, [300])])


def check_logprobs(runtime: LlamaRuntime, answers: list[Answer]) -> int:
    """Holds what was told against what the model says alone; how many logprobs."""
    count = 0
    for answer in answers:
        for one in answer.told.values():
            told = _by_position(answer.job, one)
            if not told:
                continue
            alone = alone_logprobs(runtime, answer.job.adapter, [*answer.job.prompt, *one.ids])
            for position, entry in told.items():
                assert abs(alone[position] - entry.logprob) < _TOLERANCE, (answer.job, position)
            count += len(told)
    return count


def _by_position(job: Job, told: Told) -> dict[int, Logprobs]:
    found = dict(enumerate(told.of_prompt[1:], start=1))
    return found | dict(enumerate(told.logprobs, start=len(job.prompt)))


def alone_logprobs(runtime: LlamaRuntime, adapter: str, tokens: list[int]) -> list[float]:
    """Of each token but the first, whose place holds 0."""
    runtime.reset()
    runtime.adapt(adapter)
    found = [0.0]
    for start in range(0, len(tokens) - 1, runtime.outputs):
        part = tokens[start : start + runtime.outputs]
        ((*rows,),) = runtime.decode([Chunk(0, start, part, outputs=len(part))])
        following = tokens[start + 1 : start + 1 + len(part)]
        for row, token in zip(rows, following, strict=False):
            logits = row.astype(np.float64)
            found.append(float(logits[token] - np.logaddexp.reduce(logits)))
    return found


@pytest.mark.parametrize(
    ("count", "parked"),
    [
        (200, PARKED),
        (200, 0),
        pytest.param(2000, PARKED, marks=[pytest.mark.soak, pytest.mark.timeout(900)]),
    ],
)
async def test_mixed_requests_leave_nothing_behind(runtime, moody, monkeypatch, count, parked):
    monkeypatch.setattr("services.llama.roster.STALLED_SECONDS", 0.05)
    moody.refuses_each = 97
    everyone = guests(Random(f"{count} {parked}"), count, runtime.vocabulary, ADAPTER)
    # The loop's own threads are there before.
    await asyncio.to_thread(int)
    threads, metrics = Threads(), Metrics()
    engine = make_engine(moody, metrics, parked)
    house = House(engine, runtime.vocabulary)
    await asyncio.wait_for(house.entertain(everyone), 800)
    await check_nothing_is_left(engine, runtime)
    await threads.are_gone()
    seen = house.seen
    assert seen["done"] + seen["left"] + seen["late"] == count + seen["turns"]
    assert seen["paused"] == sum(guest.lazy for guest in everyone) > 0
    assert min(seen["left"], seen["late"]) > count / 40
    assert min(seen["resumed"], seen["valid"], seen["turns"]) > count / 20
    assert moody.refused > 0
    assert metrics.preemptions._value.get() > moody.refused + count / 20
    assert metrics.reused_tokens._value.get() > 10 * count
    assert metrics.accepted_tokens._value.get() > count
    assert (metrics.restored_tokens._value.get() > 5 * count) == (parked > 0)
    assert check_logprobs(runtime, house.answers) > 4 * count


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
async def test_a_decode_error_ends_those_that_used_the_cache_and_no_others(runtime, moody, late):
    moody.fail_at, moody.fails_late = {20, 60}, late
    prompts = [runtime.vocabulary.tokenize(f"One {n} more", parse_special=False) for n in range(24)]
    job = Job(
        [],
        sampling=SamplingParams(temperature=0.0),
        stop=StopParams(max_tokens=24, ignore_eos=True),
        output=OutputParams(token_ids=True, logprobs=True),
    )
    everyone = [Guest(replace(job, prompt=prompt)) for prompt in prompts]
    engine = make_engine(moody)
    house = House(engine, runtime.vocabulary)
    using: list[int] = []
    jobs = [id(guest.job) for guest in everyone]

    def note() -> None:
        running = engine._roster.running.values()
        using.extend(jobs.index(id(sequence.job)) for sequence in running)

    moody.on_failure = note
    results = await asyncio.gather(
        *(house.entertain([guest]) for guest in everyone), return_exceptions=True
    )
    failed = [number for number, result in enumerate(results) if result is not None]
    assert failed == sorted(using)
    assert 2 <= len(failed) <= 16
    for number in failed:
        group = results[number]
        assert isinstance(group, ExceptionGroup)
        assert [type(error) for error in group.exceptions] == [EngineFailed]
    assert house.seen["done"] == 24 - len(failed)
    await check_nothing_is_left(engine, runtime)
    assert check_logprobs(runtime, house.answers) == 24 * house.seen["done"]
