"""Images in chats: by value within limits of their own, and fetched from hosts that are allowed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edge import fetching, media_size
from edge.errors import ApiError
from edge.fetching import Hosts
from edge.openai import images
from edge.openai.chat_request import ChatRequest
from protos.inference.v1 import inference_pb2 as pb
from tests.edge.pictures import PICTURE, data_url, pictures
from tests.edge.running import chat_body, running_edge
from tests.fakes.scripted import ALL_CAPABILITIES, model_info
from tests.fakes.worker import scripted_worker


def message(*urls: str) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = [{"type": "text", "text": "What is it?"}]
    parts += [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return [{"role": "user", "content": parts}]


def chat(*urls: str) -> ChatRequest:
    return ChatRequest.model_validate(chat_body(messages=message(*urls)))


def test_hosts():
    hosts = Hosts(("Example.com", "*.images.org", "10.0.0.7"))
    assert all(map(hosts.allowed, ("example.com", "EXAMPLE.com", "a.b.images.org", "10.0.0.7")))
    assert not any(map(hosts.allowed, ("images.org", "xexample.com", "example.com.org", "")))
    assert hosts.named("example.com")
    assert not hosts.named("a.images.org")
    assert Hosts(("*",)).allowed("anything")
    assert not Hosts(())


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("::ffff:127.0.0.1", False),
        ("2002:7f00:1::", False),
        ("224.0.0.1", False),
    ],
)
def test_public_addresses(address, public):
    assert fetching._is_public(address) == public


async def inline(request: ChatRequest, hosts: Hosts) -> None:
    await fetching.put_in(images.addressed(request), hosts, images.not_had)


def urls(request: ChatRequest) -> list[str]:
    message: Any = request.messages[0]
    content = message.content
    return [part.image_url.url for part in content[1:]]


async def test_images_are_put_in_where_they_were_named():
    async with pictures() as base:
        request = chat(f"{base}/png", data_url(b"other"), f"{base}/near")
        await inline(request, Hosts(("127.0.0.1",)))
    assert urls(request) == [data_url(PICTURE), data_url(b"other"), data_url(PICTURE)]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/html", "text/html"),
        ("/nothing", "404"),
        ("/far", "another host"),
        ("/round", "too often"),
        ("/huge", "larger"),
    ],
)
async def test_images_that_are_not_had(monkeypatch, path, said):
    monkeypatch.setattr(fetching, "MOST_BYTES", 1000)
    async with pictures() as base:
        with pytest.raises(ApiError, match=said) as caught:
            await inline(chat(base + path), Hosts(("127.0.0.1", "localhost")))
    assert caught.value.status == 400
    assert caught.value.param == "messages[0].content[1].image_url.url"


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("http://127.0.0.1/x", ("*",)),
        ("http://[::1]/x", ("*",)),
        ("http://localhost/x", ("*",)),
        ("http://example.com:22/x", ("*",)),
        ("http://user:secret@example.com/x", ("*",)),
        ("http://example.com/x", ("example.org",)),
        ("http:///x", ("*",)),
    ],
)
async def test_addresses_that_are_not_asked(url, allowed):
    with pytest.raises(ApiError) as caught:
        await inline(chat(url), Hosts(allowed))
    assert caught.value.code == "invalid_image_url"
    assert "secret" not in str(caught.value)


async def test_too_many_are_not_fetched():
    with pytest.raises(ApiError, match="more than 16"):
        await inline(chat(*["http://example.com/x"] * 17), Hosts(("example.com",)))


def test_the_limit_of_a_body_is_that_of_its_texts():
    limit = 1000
    picture = json.dumps(chat_body(messages=message(data_url(bytes(5000))))).encode()
    assert media_size.parse(picture, limit)["model"] == "scripted"
    text = json.dumps(chat_body(messages=[{"role": "user", "content": "x" * 2000}])).encode()
    both = picture.replace(b"What is it?", b"x" * 2000)
    for body in (text, both, b"x" * 2000):
        with pytest.raises(ApiError) as caught:
            media_size.parse(body, limit)
        assert caught.value.status == 413


@pytest.mark.parametrize(("takes", "status"), [(True, 200), (False, 413)])
async def test_bodies_are_larger_where_a_model_takes_images(takes, status):
    media = () if takes else (pb.CAPABILITY_IMAGE, pb.CAPABILITY_AUDIO)
    info = model_info(capabilities=[one for one in ALL_CAPABILITIES if one not in media])
    async with scripted_worker(model=info) as worker, running_edge(worker.address) as edge:
        got, answer = await edge.post(messages=message(data_url(bytes(2 * 2**20))))
        assert got == status, answer
        if takes:
            (request,) = worker.backend.requests
            assert len(request.chat.messages[0].content[1].media.data) == 2 * 2**20
            assert (await edge.post(messages=message(data_url(bytes(14 * 2**20)))))[0] == 413
