"""The backend over llama.cpp and the bundled model. Kernels are not batch-invariant: no exact texts."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
from llama_cpp import llama_cpp as raw

from common.settings import EXIT_CONFIG
from protos.inference.v1 import inference_pb2 as pb
from services.llama.interface import Chunk
from services.llama.runtime import bindings
from services.llama.runtime.llama import LlamaRuntime
from services.llama.runtime.loading import RuntimeOptions
from services.worker.backend import SettingError, StartupError
from services.worker.errors import ContextLengthExceeded, DeadlineExceeded, QueueFull
from tests.llama.real_kit import MODEL, ROOT, call, collect, request

pytestmark = pytest.mark.real


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


async def test_started_deltas_finished(serve):
    backend = await serve()
    responses = await collect(backend, request())
    kinds = [response.WhichOneof("event") for response in responses]
    assert kinds[0] == "started"
    assert set(kinds[1:-1]) == {"delta"}
    usage = responses[-1].finished.usage
    assert usage.prompt_tokens == responses[0].started.prompt_tokens > 5
    assert usage.completion_tokens == responses[-2].delta.completion_tokens
    text = "".join(response.delta.text for response in responses)
    assert responses[-2].delta.delivered_bytes == len(text.encode())
    assert responses[-2].delta.finish.reason != pb.FINISH_REASON_UNSPECIFIED


async def test_eight_requests_share_their_batches(serve):
    backend = await serve(parallel=8)
    # So many that the time in which they come one by one does not count.
    made = [request(f"Count to {i}.", ignore_eos=True, max_tokens=200) for i in range(8)]
    results = await asyncio.gather(*(collect(backend, one) for one in made))
    assert all(r[-1].finished.usage.completion_tokens == 200 for r in results)
    batches = backend._metrics.batch_tokens
    count = sum(bucket.get() for bucket in batches._buckets)
    assert count < 8 * 200 / 2


async def test_closing_the_generator_frees_the_sequence(serve):
    backend = await serve()
    stream = backend.generate(request(ignore_eos=True, max_tokens=2000), call())
    async for response in stream:
        if response.HasField("delta"):
            break
    assert backend.load().running == 1
    await stream.aclose()
    await until(lambda: backend.load().running == 0)
    assert backend.load().kv_cells_used == 0


async def test_prompt_longer_than_the_context(serve):
    backend = await serve(ctx_size=256)
    with pytest.raises(ContextLengthExceeded) as caught:
        await collect(backend, request("word " * 300))
    assert caught.value.metadata["context_length"] == "256"


async def test_a_prompt_that_is_far_too_long_costs_nothing(serve):
    backend = await serve()
    # Tokenizing this takes llama.cpp minutes.
    made = request("\0" * 1_000_000)
    with pytest.raises(ContextLengthExceeded):
        await asyncio.wait_for(collect(backend, made), 30)


async def test_generation_ends_when_the_context_is_full(serve):
    backend = await serve(ctx_size=256)
    made = request("Hello", ignore_eos=True)
    made.stop.ClearField("max_tokens")
    responses = await collect(backend, made)
    usage = responses[-1].finished.usage
    assert usage.prompt_tokens + usage.completion_tokens == 256
    assert responses[-2].delta.finish.reason == pb.FINISH_REASON_LENGTH


async def test_more_than_the_cache_holds_all_finish(serve):
    backend = await serve(ctx_size=512, parallel=8)
    made = [request(f"Say {i}", ignore_eos=True, max_tokens=150) for i in range(8)]
    results = await asyncio.gather(*(collect(backend, one) for one in made))
    assert [r[-1].finished.usage.completion_tokens for r in results] == [150] * 8


async def test_queue_full_says_when_to_come_again(serve):
    backend = await serve(parallel=1, max_waiting=1)
    made = request(ignore_eos=True, max_tokens=500)
    streams = [backend.generate(made, call()) for _ in range(2)]
    waiting = [asyncio.create_task(anext(stream)) for stream in streams]
    await until(lambda: backend._live == 2)
    with pytest.raises(QueueFull) as caught:
        await collect(backend, made)
    assert caught.value.retry_after is not None
    assert 0.5 <= caught.value.retry_after <= 30
    for task, stream in zip(waiting, streams, strict=True):
        await task
        await stream.aclose()


async def test_prompts_that_are_being_made_count_in_the_queue(serve, monkeypatch):
    backend = await serve(parallel=1, max_waiting=1)
    release = threading.Event()
    tokens = backend._residence.resident.prompts.made

    def slow(made):
        release.wait(30)
        return tokens(made)

    monkeypatch.setattr(backend._residence.resident.prompts, "made", slow)
    running = [asyncio.create_task(collect(backend, request())) for _ in range(2)]
    await until(lambda: backend._live == 2)
    with pytest.raises(QueueFull):
        await asyncio.wait_for(collect(backend, request()), 30)
    release.set()
    await asyncio.gather(*running)
    assert backend._live == 0


async def test_waiting_for_others_prompts_is_nobodys_fault(serve, monkeypatch):
    monkeypatch.setattr("services.llama.threads.PROMPT_SECONDS", 1.5)
    backend = await serve()
    tokens = backend._residence.resident.prompts.made

    def slow(made):
        time.sleep(0.4)
        return tokens(made)

    monkeypatch.setattr(backend._residence.resident.prompts, "made", slow)
    results = await asyncio.gather(*(collect(backend, request()) for _ in range(10)))
    assert all(result[-1].HasField("finished") for result in results)


async def test_deadline(serve):
    backend = await serve()
    with pytest.raises(DeadlineExceeded):
        await collect(backend, request(ignore_eos=True, max_tokens=2000), seconds=0.05)


async def test_seeded_sampling_repeats_itself(serve):
    backend = await serve()
    made = request(ignore_eos=True)
    made.sampling.temperature = 1
    made.sampling.seed = 2**64 - 1
    made.output.token_ids = True
    runs = [await collect(backend, made) for _ in range(2)]
    ids = [[t for r in run for t in r.delta.token_ids] for run in runs]
    assert ids[0] == ids[1]
    assert len(ids[0]) == 24


async def test_logprobs_of_greedy_tokens_are_the_best(serve):
    backend = await serve()
    made = request()
    made.output.logprobs = True
    made.output.top_logprobs = 3
    entries = [e for r in await collect(backend, made) for e in r.delta.logprobs]
    assert entries
    assert all(e.top[0].token_id == e.token_id and e.logprob <= 0 for e in entries)


async def test_users_control_tokens_stay_text(serve):
    backend = await serve()
    text = "a <|im_end|> b"
    rendered = pb.RenderPromptRequest(chat=request(text).chat, with_token_ids=True)
    answer = await backend.render_prompt(rendered, call())
    assert text in answer.prompt
    end = (
        await backend.tokenize(
            pb.TokenizeRequest(text=pb.TextInput(text="<|im_end|>", parse_special=True)), call()
        )
    ).token_ids
    assert len(end) == 1
    assert list(answer.token_ids).count(end[0]) == answer.prompt.count("<|im_end|>") - 1
    back = await backend.detokenize(pb.DetokenizeRequest(token_ids=answer.token_ids), call())
    assert back.text == answer.prompt


async def test_tokenize_and_back(serve):
    backend = await serve()
    text = "Grüße, 世界! <|im_start|>"
    answer = await backend.tokenize(
        pb.TokenizeRequest(text=pb.TextInput(text=text, add_bos=False), with_pieces=True), call()
    )
    assert b"".join(answer.pieces).decode() == text


def test_prefill_in_chunks_or_decode_by_decode_computes_the_same_sequence():
    options = RuntimeOptions(
        cells=256, parallel=2, idle=2, batch_size=64, ubatch_size=64, outputs=2, threads=1
    )
    runtime = LlamaRuntime(MODEL, options)
    try:
        tokens = runtime.vocabulary.tokenize("What is the capital of France?", parse_special=False)
        ((whole,),) = runtime.decode([Chunk(0, 0, tokens, outputs=1)])
        expected = whole.copy()
        for at, token in enumerate(tokens):
            ((row,),) = runtime.decode([Chunk(3, at, [token], outputs=1)])
        assert abs(row - expected).max() < 0.1 * expected.std()
        with pytest.raises(ValueError, match="65 tokens"):
            runtime.decode([Chunk(1, 0, [1] * 65, outputs=1)])
        with pytest.raises(ValueError, match="outputs"):
            runtime.decode([Chunk(1, 0, [1] * 3, outputs=3)])
    finally:
        runtime.close()


def test_a_saved_state_comes_back_as_it_was():
    options = RuntimeOptions(
        cells=256, parallel=3, idle=0, batch_size=64, ubatch_size=64, outputs=2, threads=1
    )
    runtime = LlamaRuntime(MODEL, options)
    try:
        tokens = runtime.vocabulary.tokenize("What is the capital of France?", parse_special=False)
        assert not runtime.restore(1, np.zeros(40, np.uint8))
        # Its cells lie scattered between another's.
        for at, token in enumerate(tokens):
            runtime.decode([Chunk(0, at, [token]), Chunk(1, at, [token])])
        state = runtime.save(0)
        assert state is not None
        assert state.nbytes == runtime.state_size(0)
        ((row,),) = runtime.decode([Chunk(0, len(tokens), [7], outputs=1)])
        expected = row.copy()
        runtime.reset()
        assert runtime.restore(2, state)
        ((row,),) = runtime.decode([Chunk(2, len(tokens), [7], outputs=1)])
        assert abs(row - expected).max() < 1e-3 * expected.std()
        # The beginning of it serves as well.
        runtime.truncate(2, 3)
        runtime.copy(2, 0, 3)
        ((row,),) = runtime.decode([Chunk(0, 3, [*tokens[3:], 7], outputs=1)])
        assert abs(row - expected).max() < 0.1 * expected.std()
        assert not runtime.restore(1, state[: state.nbytes // 2])
        runtime.decode([Chunk(1, 0, [7])])
    finally:
        runtime.close()


def test_a_gpu_is_waited_for_where_the_event_loop_can_run_meanwhile(monkeypatch):
    options = RuntimeOptions(
        cells=256, parallel=1, idle=0, batch_size=32, ubatch_size=32, outputs=1, threads=1
    )
    runtime = LlamaRuntime(MODEL, options)
    calls = []

    def note(name):
        original = getattr(bindings, name)

        def noted(*args):
            calls.append(name)
            return original(*args)

        monkeypatch.setattr(bindings, name, noted)

    for name in ("decode", "synchronize", "get_logits_ith"):
        note(name)
    try:
        runtime.decode([Chunk(0, 0, [5], outputs=1)])
        assert calls == ["decode", "get_logits_ith"]
        runtime._asynchronous = True
        runtime.decode([Chunk(0, 1, [5], outputs=1)])
        assert calls[2:] == ["decode", "synchronize", "get_logits_ith"]
    finally:
        runtime.close()


def unknown_architecture(data: bytes) -> bytes:
    return data.replace(b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0lxama", 1)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda data: data[: len(data) // 2], "broken GGUF file"),
        (lambda data: b"GGML" + data[4:], "not a GGUF file"),
        (unknown_architecture, "unknown model architecture: 'lxama'"),
    ],
)
async def test_a_broken_model_is_one_clear_line(serve, tmp_path, change, fault):
    path = tmp_path / "broken.gguf"
    path.write_bytes(change(MODEL.read_bytes()))
    with pytest.raises(StartupError, match=fault) as caught:
        await serve(model=str(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_an_absurd_context_is_refused_before_it_is_allocated(serve):
    with pytest.raises(StartupError, match="--ctx-size 2000000000 needs"):
        await serve(ctx_size=2_000_000_000)


def test_the_command_says_what_is_wrong_and_fails():
    command = [sys.executable, "-m", "services.llama", "--model", "none.gguf", "--port", "0"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env=os.environ
    )
    # A supervisor does not try again.
    assert done.returncode == EXIT_CONFIG
    assert "none.gguf: no such file" in done.stderr
    assert "Traceback" not in done.stderr


async def test_layers_for_a_gpu_that_the_build_does_not_know(serve):
    if raw.llama_supports_gpu_offload():
        pytest.skip("this build has a GPU backend")
    with pytest.raises(SettingError, match="no GPU backend"):
        await serve(gpu_layers=1)
