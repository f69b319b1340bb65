"""What the engine shows to Prometheus is what happened."""

from __future__ import annotations

import asyncio

from services.llama.engine import Engine, EngineLimits
from services.llama.load import Metrics
from tests.llama.engine_kit import check_and_stop, job, read, until
from tests.llama.fake_runtime import FakeRuntime


def values(metrics: Metrics) -> dict[str, float]:
    """By the names of samples, without those of histograms' buckets."""
    return {
        sample.name.removeprefix("caravan_llama_"): sample.value
        for collector in metrics.collectors
        for metric in collector.collect()
        for sample in metric.samples
        if not sample.name.endswith("_bucket")
    }


async def run(*prompts: str, tokens: int = 5) -> dict[str, float]:
    """One after another."""
    metrics = Metrics()
    engine = Engine(FakeRuntime(), EngineLimits(1024, parallel=8, drafts=0), metrics)
    engine.start()
    for prompt in prompts:
        await read(engine.submit(job(prompt, tokens=tokens)))
    await check_and_stop(engine)
    return values(metrics)


async def test_a_prompts_tokens_are_reused_or_evaluated():
    same = "the same words as those before" * 2
    # Of the second and third only the last token is evaluated.
    seen = await run(same, same, same, "x")
    assert seen["prompt_tokens_total"] == 3 * len(same) + 1
    assert seen["reused_tokens_total"] == 2 * (len(same) - 1)
    assert seen["prefill_tokens_total"] == len(same) + 3
    assert seen["decode_tokens_total"] == 4 * 5
    assert seen["batch_tokens_sum"] == len(same) + 3 + 4 * 4
    assert seen["time_to_first_token_seconds_count"] == 4
    assert seen["inter_token_seconds_count"] == 4 * 4


async def test_a_prompt_that_generates_nothing_has_no_first_token():
    seen = await run("echo", tokens=0)
    assert seen["prefill_tokens_total"] == 4
    assert seen["time_to_first_token_seconds_count"] == 0


async def test_the_first_token_counts_when_it_is_there_whatever_comes_after():
    metrics = Metrics()
    engine = Engine(FakeRuntime(), EngineLimits(1024, parallel=8), metrics)
    engine.start()
    streams = engine.submit(job(tokens=1000))
    await asyncio.wait_for(streams.next(), 30)
    engine.cancel(streams)
    await until(lambda: engine.load.running == 0)
    assert values(metrics)["time_to_first_token_seconds_count"] == 1
    await check_and_stop(engine)
