"""Chats with images and sounds over llama.cpp, the bundled model and tiny random projectors."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from protos.inference.v1 import inference_pb2 as pb
from services.llama.backend import LlamaBackend
from services.worker.backend import StartupError
from services.worker.errors import ContextLengthExceeded, InvalidField
from tests.llama.media import files, projectors
from tests.llama.media.kit import about, chat, first_logprobs, tokens, usage
from tests.llama.real_kit import MODEL, call, collect, request

pytestmark = pytest.mark.real

BLUE = (0, 0, 255)


@pytest.fixture(scope="session")
def mmproj(tmp_path_factory):
    return projectors.write(tmp_path_factory.mktemp("projector") / "mmproj.gguf")


@pytest.fixture
async def backend(serve, mmproj):
    return await serve(mmproj=str(mmproj), parallel=4)


async def test_the_model_says_what_its_projector_takes(serve, mmproj, tmp_path):
    both = await serve(mmproj=str(mmproj))
    images = await serve(mmproj=str(projectors.write(tmp_path / "i.gguf", sounds=False)))
    none = await serve()
    wanted = {pb.CAPABILITY_IMAGE, pb.CAPABILITY_AUDIO}
    assert wanted <= set(both.model().capabilities)
    assert wanted & set(images.model().capabilities) == {pb.CAPABILITY_IMAGE}
    assert not wanted & set(none.model().capabilities)
    assert len({one.model().identity for one in (both, images, none)}) == 3


async def test_an_image_is_part_of_the_prompt(backend):
    with_image = await collect(backend, about())
    without = await collect(backend, chat("What is in this picture?Answer shortly."))
    assert with_image[0].started.prompt_tokens == usage(with_image).prompt_tokens
    # The line feed between the two texts is the image's place now.
    more = usage(with_image).prompt_tokens - usage(without).prompt_tokens
    assert more - projectors.IMAGE_CELLS in range(-2, 3)
    assert first_logprobs(with_image) != first_logprobs(without)


async def test_what_is_seen_depends_on_the_image(backend):
    made = [about(colour) for colour in ((255, 0, 0), BLUE)]
    for one in made:
        one.chat.messages[0].content[0].text = "Look at this picture with care. " * 8
    red, blue = [await collect(backend, one) for one in made]
    assert usage(red).prompt_tokens == usage(blue).prompt_tokens
    assert first_logprobs(red) != first_logprobs(blue)
    # Up to the image they are one prompt, and no further.
    assert 0 < usage(blue).cached_tokens < usage(blue).prompt_tokens - projectors.IMAGE_CELLS


async def test_the_same_image_again_costs_nothing(backend):
    first = await collect(backend, about())
    encoded = backend._media_metrics.encode_seconds
    assert sum(bucket.get() for bucket in encoded._buckets) == 1
    again = await collect(backend, about())
    assert sum(bucket.get() for bucket in encoded._buckets) == 1
    assert usage(again).cached_tokens == usage(first).prompt_tokens - 1
    assert backend._media_metrics.cached_bytes._value.get() == 16 * 256 * 4
    assert tokens(again) == tokens(first)


async def test_the_next_turn_finds_the_image_in_the_cache(backend):
    first = await collect(backend, about())
    turn = about()
    turn.chat.messages.add(role=pb.ROLE_ASSISTANT).content.add(text="A red square.")
    turn.chat.messages.add(role=pb.ROLE_USER).content.add(text="Which red?")
    second = await collect(backend, turn)
    assert usage(second).cached_tokens > usage(first).prompt_tokens - 12
    assert usage(second).cached_tokens > projectors.IMAGE_CELLS


async def test_a_sound_is_part_of_the_prompt(backend):
    heard = [await collect(backend, chat("Say it.", files.wav(tone=t))) for t in (300, 3000)]
    assert first_logprobs(heard[0]) != first_logprobs(heard[1])
    longer = await collect(backend, chat("Say it.", files.wav(40)))
    more = usage(longer).prompt_tokens - usage(heard[0]).prompt_tokens
    assert more == projectors.SOUND_CELLS


async def test_several_images_keep_their_order(backend):
    red, blue = files.png(), files.png(colour=BLUE)
    one, other = [
        await collect(backend, chat("a", *pair, "b")) for pair in ((red, blue), (blue, red))
    ]
    assert usage(one).prompt_tokens == usage(other).prompt_tokens
    assert first_logprobs(one) != first_logprobs(other)


async def test_choices_share_the_image(backend):
    made = about()
    made.n = 3
    responses = await collect(backend, made)
    assert {len(tokens(responses, choice)) for choice in range(3)} == {8}
    prefilled = backend._metrics.prefill_tokens._value.get()
    assert prefilled < 2 * usage(responses).prompt_tokens


async def test_another_worker_goes_on(backend, serve, mmproj):
    whole = await collect(backend, about(max_tokens=12))
    other = await serve(mmproj=str(mmproj))
    assert other.model().identity == backend.model().identity
    made = about(max_tokens=12)
    made.resume.choices.add(index=0, token_ids=tokens(whole)[:5])
    rest = await collect(other, made)
    assert tokens(rest) == tokens(whole)[5:]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(3), "cut off"),
        (files.png()[:60], "cut off"),
        (files.png()[:-30] + bytes(30), "broken"),
        (files.png_of(30_000, 30_000, b""), "million"),
        (b"<svg/>", "not an image"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "WebP"),
        (files.wav(0.01), "shorter"),
        (files.mp3_frames(3)[:-9] + b"x" * 9000, "broken"),
    ],
)
async def test_files_that_cannot_be_read(backend, content, said):
    made = chat("What is it?", content)
    if content.startswith(b"RIFF") and b"WEBP" in content:
        made.chat.messages[0].content[1].media.mime_type = "image/webp"
    with pytest.raises(InvalidField, match=said) as caught:
        await collect(backend, made)
    assert caught.value.metadata["field"] == "chat.messages[0].content[1]"
    assert backend.load().running == 0


async def test_too_many_and_too_long(backend, serve, mmproj):
    with pytest.raises(InvalidField, match="64 images"):
        await collect(backend, chat(*([files.png()] * 65)))
    small = await serve(mmproj=str(mmproj), ctx_size=256)
    with pytest.raises(ContextLengthExceeded):
        await collect(small, chat(*([files.png()] * 20)))
    assert sum(b.get() for b in small._media_metrics.encode_seconds._buckets) == 0


async def test_prompt_logprobs_are_refused(backend):
    made = about()
    made.output.prompt_logprobs = True
    with pytest.raises(InvalidField) as caught:
        await collect(backend, made)
    assert caught.value.metadata["field"] == "output.prompt_logprobs"


async def test_texts_of_users_are_no_images(backend):
    """Neither what stands for a place inside, nor what llama.cpp writes for one."""
    texts = ["\ufdd20\ufdd2 <__media__> ", "\ufdd21\ufdd2"]
    plain = await collect(backend, chat(" <__media__> 0", files.png(), "1"))
    tricky = await collect(backend, chat(texts[0] + "0", files.png(), texts[1]))
    assert usage(tricky).prompt_tokens in range(
        usage(plain).prompt_tokens, usage(plain).prompt_tokens + 8
    )


async def test_a_rendered_prompt_shows_places(backend):
    made = pb.RenderPromptRequest(chat=about().chat)
    answer = await backend.render_prompt(made, call())
    assert "What is in this picture?<__media__>Answer shortly." in answer.prompt
    made.with_token_ids = True
    with pytest.raises(InvalidField):
        await backend.render_prompt(made, call())


class Held:
    """Keeps a backend's encoder from finishing until it is told to."""

    def __init__(self, backend: LlamaBackend, monkeypatch) -> None:
        there: Any = backend._residence.resident
        projector = there.loaded.projector
        self.begun, self.released = threading.Event(), threading.Event()
        encode = projector.encode

        def held(data: bytes):
            self.begun.set()
            assert self.released.wait(30)
            return encode(data)

        monkeypatch.setattr(projector, "encode", held)


async def test_texts_run_while_an_image_is_encoded(backend, monkeypatch):
    held = Held(backend, monkeypatch)
    image = asyncio.create_task(collect(backend, about()))
    await asyncio.to_thread(held.begun.wait)
    texts = await asyncio.gather(*(collect(backend, request(f"Count to {n}.")) for n in range(3)))
    assert all(responses[-1].HasField("finished") for responses in texts)
    assert not image.done()
    held.released.set()
    assert usage(await image).completion_tokens == 8


async def test_it_has_started_before_it_is_encoded(backend, monkeypatch):
    held = Held(backend, monkeypatch)
    stream = backend.generate(about(), call())
    assert (await anext(stream)).HasField("started")
    held.released.set()
    await stream.aclose()


async def test_leaving_while_it_is_encoded(backend, monkeypatch):
    held = Held(backend, monkeypatch)
    image = asyncio.create_task(collect(backend, about()))
    await asyncio.to_thread(held.begun.wait)
    image.cancel()
    with pytest.raises(asyncio.CancelledError):
        await image
    assert backend.load().running == 0
    held.released.set()
    assert usage(await collect(backend, about())).completion_tokens == 8


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"mmproj": "/nowhere.gguf"}, "no such file"),
        ({"mmproj": str(MODEL)}, "no projector but a model"),
    ],
)
async def test_wrong_files_are_named_at_the_start(serve, settings, said):
    with pytest.raises(StartupError, match=said):
        await serve(**settings)


async def test_a_projector_of_another_width(serve, tmp_path):
    path = projectors.write(tmp_path / "wide.gguf", width=128)
    with pytest.raises(StartupError, match=r"n_embd = 256.*n_embd = 128"):
        await serve(mmproj=str(path))


async def test_a_model_that_leaves_the_memory_comes_back(serve, mmproj):
    backend = await serve(mmproj=str(mmproj), idle_unload=0.2)
    first = await collect(backend, about())
    while backend._residence.resident is not None:
        await asyncio.sleep(0.01)
    assert tokens(await collect(backend, about())) == tokens(first)
