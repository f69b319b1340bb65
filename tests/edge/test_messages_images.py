"""Images of Anthropic's API at addresses: fetched wherever they stand, and what is said of others."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edge import fetching
from edge.anthropic import errors, images, rules
from edge.anthropic.request import MessagesRequest
from edge.errors import ApiError
from edge.fetching import Hosts
from edge.openai import images as openai
from edge.openai.chat_request import ChatRequest
from protos.inference.v1 import inference_pb2 as pb
from tests.edge.pictures import PICTURE, data_url, pictures
from tests.edge.running import RunningEdge, chat_body, running_edge
from tests.fakes.scripted import ALL_CAPABILITIES, model_info
from tests.fakes.worker import ScriptedWorker, scripted_worker

LOCAL = Hosts(("127.0.0.1",))


def image(url: str) -> dict[str, Any]:
    return {"type": "image", "source": {"type": "url", "url": url}}


def turns(url: str) -> list[dict[str, Any]]:
    """An image in each place that can have one, behind a text, and one that is there by value."""
    said = {"type": "text", "text": "Look."}
    document = {
        "type": "document",
        "source": {"type": "content", "content": [said, image(url)]},
    }
    use = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "t", "content": [said, image(url)]}
    return [
        {"role": "user", "content": [said, image(url), document, image(data_url(b"other"))]},
        {"role": "assistant", "content": [use]},
        {"role": "user", "content": [result]},
    ]


def asked(messages: list[dict[str, Any]]) -> MessagesRequest:
    return rules.read(MessagesRequest, {"model": "m", "max_tokens": 9, "messages": messages})


async def post(edge: RunningEdge, url: str, path: str = "/v1/messages") -> tuple[int, Any]:
    body = {"model": "scripted", "max_tokens": 9, "messages": turns(url)}
    return await edge.post(json.dumps(body).encode(), path)


def media(worker: ScriptedWorker) -> list[bytes]:
    messages = worker.backend.requests[-1].chat.messages
    parts = [part for message in messages for part in message.content]
    return [part.media.data for part in parts if part.HasField("media")]


PLACES = (
    "messages.0.content.1.image.source.url.url",
    "messages.0.content.2.document.source.content.content.1.image.source.url.url",
    "messages.2.content.0.tool_result.content.1.image.source.url.url",
)


def test_places() -> None:
    found = [one.param for one in images.addressed(asked(turns("HTTPS://127.0.0.1/x")))]
    assert found == list(PLACES)


@pytest.mark.parametrize(("message", "block", "place"), [(0, 1, 0), (0, 2, 1), (2, 0, 2)])
def test_places_are_named_as_validation_names_them(message: int, block: int, place: int) -> None:
    wrong: Any = 5
    mixed = turns("http://127.0.0.1/x")
    mixed[message]["content"][block] = turns(wrong)[message]["content"][block]
    with pytest.raises(ApiError) as caught:
        asked(mixed)
    assert caught.value.param == PLACES[place]


async def test_they_are_put_in_wherever_they_stand() -> None:
    async with (
        pictures() as base,
        scripted_worker() as worker,
        running_edge(worker.address, media_hosts=("127.0.0.1",)) as edge,
    ):
        status, answer = await post(edge, f"{base}/png")
        assert (status, answer["type"]) == (200, "message"), answer
        assert media(worker) == [PICTURE, PICTURE, b"other", PICTURE]
        kinds = {
            part.media.mime_type
            for part in worker.backend.requests[-1].chat.messages[0].content
            if part.HasField("media")
        }
        assert kinds == {"image/png"}
        status, answer = await post(edge, f"{base}/near", "/v1/messages/count_tokens")
        assert (status, list(answer)) == (200, ["input_tokens"])


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("127.0.0.1", "The image was not fetched: the status is 404"),
        ("example.com", "This server does not fetch images from there; send a"),
    ],
)
async def test_what_is_not_had_is_said_without_the_address(path: str, host: str, said: str) -> None:
    async with pictures() as base, scripted_worker() as worker:
        async with running_edge(worker.address, media_hosts=(host,)) as edge:
            status, answer = await post(edge, f"{base}/none?token=secret", path)
        assert (status, answer["type"]) == (400, "error")
        assert answer["error"]["type"] == "invalid_request_error"
        assert said in answer["error"]["message"]
        assert answer["error"]["message"].startswith("messages.")
        assert ".image.source.url.url: " in answer["error"]["message"]
        assert "secret" not in json.dumps(answer)
        assert answer["request_id"]
        assert not worker.backend.requests


async def test_without_hosts_nothing_is_asked() -> None:
    async with scripted_worker() as worker, running_edge(worker.address) as edge:
        status, answer = await post(edge, "http://127.0.0.1:1/x")
    assert status == 400
    assert "this server does not fetch images" in answer["error"]["message"]


async def test_a_model_that_sees_nothing_says_so() -> None:
    blind = [one for one in ALL_CAPABILITIES if one != pb.CAPABILITY_IMAGE]
    async with (
        pictures() as base,
        scripted_worker(model=model_info(capabilities=blind)) as worker,
        running_edge(worker.address, media_hosts=("127.0.0.1",)) as edge,
    ):
        status, answer = await post(edge, f"{base}/png")
    assert status == 400
    assert answer["error"]["message"] == ("messages: The model 'scripted' does not support images.")


async def test_too_many_and_too_large_together(monkeypatch: pytest.MonkeyPatch) -> None:
    many = asked([{"role": "user", "content": [image("http://127.0.0.1/x")] * 17}])
    with pytest.raises(ApiError) as caught:
        await fetching.put_in(images.addressed(many), LOCAL, images.not_had)
    assert errors.body(caught.value)["error"]["message"] == (
        "messages: More than 16 images to be fetched"
    )
    monkeypatch.setattr(fetching, "MOST_BYTES_TOGETHER", len(PICTURE))
    async with pictures() as base:
        two = asked([{"role": "user", "content": [image(f"{base}/png")] * 2}])
        with pytest.raises(ApiError, match=r"messages: Images of more than 0 MiB together"):
            await fetching.put_in(images.addressed(two), LOCAL, images.not_had)


async def test_chats_keep_their_own_words() -> None:
    part = {"type": "image_url", "image_url": {"url": "http://example.com/x"}}
    messages = [{"role": "user", "content": [part]}]
    chat = ChatRequest.model_validate(chat_body(messages=messages))
    with pytest.raises(ApiError) as caught:
        await fetching.put_in(openai.addressed(chat), LOCAL, openai.not_had)
    assert caught.value.message == (
        "Invalid 'messages[0].content[0].image_url.url': this server does not fetch images from "
        "there; send a base64-encoded data URL."
    )
