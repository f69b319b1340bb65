"""POST /v1/responses over a scripted worker: asked, streamed, stored, gone on from."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any

import pytest

from edge.access.identity import Identity, Open
from services.worker.errors import ContextLengthExceeded, InvalidField
from tests.edge.responding import PAGE, PATH, ask, delete, made, reduced, said, streamed, streaming
from tests.edge.running import RunningEdge, running_edge
from tests.fakes.script import ADMISSION, Script, ScriptedCall
from tests.fakes.worker import ScriptedWorker


@pytest.fixture
async def edge(worker: ScriptedWorker, tmp_path: Path) -> AsyncGenerator[RunningEdge, None]:
    async with running_edge(worker.address, store_url=str(tmp_path / "responses.db")) as running:
        yield running


TOOL = {"type": "function", "name": "f", "parameters": {"type": "object"}}
CALL = Script(tokens=(), tool_calls=[ScriptedCall("f", ('{"a"', ":1}"))])


async def test_a_response(edge: RunningEdge, worker: ScriptedWorker) -> None:
    response = await made(edge, instructions="Be brief.", max_output_tokens=9, seed=5, top_k=3)
    assert response["id"].startswith("resp_")
    assert (response["object"], response["status"]) == ("response", "completed")
    (message,) = response["output"]
    assert (message["type"], message["role"], message["status"]) == (
        "message",
        "assistant",
        "completed",
    )
    assert message["content"] == [
        {"type": "output_text", "text": "Hello, world!", "annotations": [], "logprobs": []}
    ]
    assert response["usage"]["total_tokens"] == 5 + 4
    assert said(worker) == [("system", "Be brief."), ("user", "hi")]
    sent = worker.backend.requests[0]
    assert (sent.stop.max_tokens, sent.sampling.seed, sent.sampling.top_k) == (9, 5, 3)


async def test_a_stream_tells_what_is_stored(edge: RunningEdge) -> None:
    events = await streamed(edge)
    assert [event["type"] for event in events][:3] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
    ]
    last = events[-1]
    assert last["type"] == "response.completed"
    assert reduced(events) == last["response"]
    # The stream has ended, so it is there.
    assert await edge.get(f"{PATH}/{last['response']['id']}") == (200, last["response"])


async def test_tokens_come_as_they_are_made(edge: RunningEdge, worker: ScriptedWorker) -> None:
    worker.backend.script = Script(paced=True)
    async with streaming(edge) as events:
        for expected in ("created", "in_progress"):
            assert (await anext(events))["type"] == f"response.{expected}"
        worker.backend.step()
        for _ in range(2):
            await anext(events)
        for token in ("Hello", ",", " world"):
            assert (await anext(events))["delta"] == token
            worker.backend.step()
        worker.backend.step()
        assert [event async for event in events][-1]["type"] == "response.completed"


async def test_going_on_from_a_response(edge: RunningEdge, worker: ScriptedWorker) -> None:
    first = await made(edge, input="one", instructions="Be brief.")
    second = await made(edge, input="two", previous_response_id=first["id"])
    assert second["previous_response_id"] == first["id"]
    # Instructions are not carried over.
    assert said(worker) == [("user", "one"), ("assistant", "Hello, world!"), ("user", "two")]
    events = await streamed(edge, input="three", previous_response_id=second["id"])
    assert len(said(worker)) == 5
    third = events[-1]["response"]["id"]
    # One may go on from the same place twice, and without anything new to say.
    await made(edge, input="another", previous_response_id=first["id"])
    assert [text for _, text in said(worker)] == ["one", "Hello, world!", "another"]
    await made(edge, input=None, previous_response_id=third)
    assert len(said(worker)) == 6


@pytest.mark.parametrize("store", [False, True])
async def test_previous_responses_that_are_not_there(edge: RunningEdge, store: bool) -> None:
    first = await made(edge, store=store)
    assert first["store"] is store
    if store:
        assert await delete(edge, first["id"]) == (
            200,
            {"id": first["id"], "object": "response", "deleted": True},
        )
    status, body = await ask(edge, previous_response_id=first["id"])
    assert (status, body["error"]["code"]) == (400, "previous_response_not_found")
    assert body["error"]["param"] == "previous_response_id"
    for status, body in (
        await edge.get(f"{PATH}/{first['id']}"),
        await edge.get(f"{PATH}/{first['id']}/input_items"),
        await delete(edge, first["id"]),
        await ask(edge, f"{PATH}/{first['id']}/cancel"),
    ):
        assert status == 404
        assert body["error"]["message"] == f"Response with id '{first['id']}' not found."


async def test_a_chain_that_lost_its_beginning(edge: RunningEdge) -> None:
    first = await made(edge)
    second = await made(edge, previous_response_id=first["id"])
    await delete(edge, first["id"])
    status, body = await ask(edge, previous_response_id=second["id"])
    assert (status, body["error"]["code"]) == (400, "previous_response_not_found")
    assert first["id"] in body["error"]["message"]
    assert (await edge.get(f"{PATH}/{second['id']}"))[0] == 200


async def test_ids_of_another_form(edge: RunningEdge) -> None:
    for unknown in ("resp_1", "resp_%00", "resp_" + "0" * 32):
        assert (await edge.get(f"{PATH}/{unknown}"))[0] == 404
        assert (await edge.get(f"{PATH}/{unknown}/input_items"))[0] == 404
        assert (await delete(edge, unknown))[0] == 404
    status, body = await ask(edge, previous_response_id="resp_\x00")
    assert (status, body["error"]["code"]) == (400, "previous_response_not_found")
    for status, body in (await edge.get(f"{PATH}/abc"), await delete(edge, "abc")):
        assert (status, body["error"]["param"]) == (400, "response_id")


async def test_an_empty_previous_id_is_none(edge: RunningEdge) -> None:
    first = await made(edge, previous_response_id="")
    assert first["previous_response_id"] is None
    assert (await made(edge, previous_response_id=first["id"]))["status"] == "completed"


async def test_input_items(edge: RunningEdge) -> None:
    first = await made(edge, input="one")
    second = await made(edge, input="two", previous_response_id=first["id"])
    status, listed = await edge.get(f"{PATH}/{second['id']}/input_items")
    assert (status, listed["object"], listed["has_more"]) == (200, "list", False)
    PAGE.validate_python(listed, strict=True)
    texts = [item["content"][0]["text"] for item in listed["data"]]
    assert texts == ["two", "Hello, world!", "one"]
    assert listed["data"][1] == first["output"][0]
    assert (listed["first_id"], listed["last_id"]) == (
        listed["data"][0]["id"],
        listed["data"][2]["id"],
    )
    _, page = await edge.get(f"{PATH}/{second['id']}/input_items?order=asc&limit=1")
    assert (page["data"], page["has_more"]) == ([listed["data"][2]], True)
    after = f"{PATH}/{second['id']}/input_items?order=asc&after={page['last_id']}"
    assert (await edge.get(after))[1]["data"] == [listed["data"][1], listed["data"][0]]
    assert (await edge.get(f"{PATH}/{second['id']}/input_items?limit=x"))[0] == 400


async def test_references_to_items(edge: RunningEdge, worker: ScriptedWorker) -> None:
    first = await made(edge, input="one")
    _, listed = await edge.get(f"{PATH}/{first['id']}/input_items")
    references = [
        {"type": "item_reference", "id": listed["data"][0]["id"]},
        {"id": first["output"][0]["id"]},
        {"role": "user", "content": "two"},
    ]
    second = await made(edge, input=references)
    assert said(worker) == [("user", "one"), ("assistant", "Hello, world!"), ("user", "two")]
    _, listed = await edge.get(f"{PATH}/{second['id']}/input_items?order=asc")
    assert listed["data"][1] == first["output"][0]
    third = await made(edge, input=[listed["data"][0]], previous_response_id=second["id"])
    _, listed = await edge.get(f"{PATH}/{third['id']}/input_items")
    assert len({item["id"] for item in listed["data"]}) == 5
    for unknown in ("msg_1", "msg_" + "0" * 32 + "o0", first["output"][0]["id"] + "7"):
        status, body = await ask(edge, input=[{"type": "item_reference", "id": unknown}])
        assert (status, body["error"]["param"]) == (404, "input")
        assert unknown in body["error"]["message"]


@pytest.mark.parametrize("stream", [False, True])
async def test_calls_of_functions(edge: RunningEdge, worker: ScriptedWorker, stream: bool) -> None:
    worker.backend.script = CALL
    if stream:
        events = await streamed(edge, tools=[TOOL])
        first = events[-1]["response"]
        assert reduced(events) == first
    else:
        first = await made(edge, tools=[TOOL])
    (call,) = first["output"]
    assert (call["type"], call["name"], call["arguments"]) == ("function_call", "f", '{"a":1}')
    worker.backend.script = Script()
    answer = {"type": "function_call_output", "call_id": call["call_id"], "output": "21"}
    # Carried by the server, or by the client.
    await made(edge, input=[answer], previous_response_id=first["id"], tools=[TOOL])
    carried = said(worker)
    await made(edge, input=[{"role": "user", "content": "hi"}, call, answer], tools=[TOOL])
    assert said(worker)[2] == carried[2] == ("tool", "21")
    _, turn, told = worker.backend.requests[-1].chat.messages
    assert (turn.tool_calls[0].id, told.tool_call_id) == (call["call_id"], call["call_id"])
    status, body = await ask(edge, previous_response_id=first["id"])
    assert (status, body["error"]["param"]) == (400, "input")
    assert body["error"]["message"] == f"No tool output found for function call {call['call_id']}."


async def test_thoughts_are_items_and_come_back(edge: RunningEdge, worker: ScriptedWorker) -> None:
    worker.backend.script = Script(reasoning=("I ", "think"))
    sealed: Any = {"include": ["reasoning.encrypted_content"], "store": False}
    events = await streamed(edge, **sealed)
    response = events[-1]["response"]
    thought, message = response["output"]
    assert thought["content"] == [{"type": "reasoning_text", "text": "I think"}]
    assert response["usage"]["output_tokens_details"] == {"reasoning_tokens": 2}
    del thought["content"]
    question = {"role": "user", "content": "hi"}
    await made(edge, input=[question, thought, message, question], **sealed)
    assert worker.backend.requests[-1].chat.messages[1].reasoning == "I think"
    plain = await made(edge)
    assert "encrypted_content" not in plain["output"][0]
    await made(edge, previous_response_id=plain["id"])
    assert worker.backend.requests[-1].chat.messages[1].reasoning == "I think"


async def test_deltas_may_be_few_where_nobody_sees_them(
    edge: RunningEdge, worker: ScriptedWorker
) -> None:
    logprobs = {"include": ["message.output_text.logprobs"]}
    for fields, few in (
        ({}, True),
        ({"background": True}, True),
        # Of few it could not be told which logprobs are the text's.
        (logprobs, False),
        ({"background": True, **logprobs}, False),
    ):
        await made(edge, **fields)
        sent = worker.backend.requests[-1].output
        assert sent.HasField("min_delta_interval") is few, fields
    for background in (False, True):
        await streamed(edge, background=background)
        assert not worker.backend.requests[-1].output.HasField("min_delta_interval")


async def test_logprobs(edge: RunningEdge) -> None:
    response = await made(edge, include=["message.output_text.logprobs"], top_logprobs=2)
    logprobs = response["output"][0]["content"][0]["logprobs"]
    assert [entry["token"] for entry in logprobs] == ["Hello", ",", " world", "!"]
    assert len(logprobs[0]["top_logprobs"]) == 2
    assert response["top_logprobs"] == 2


async def test_cut_off(edge: RunningEdge) -> None:
    response = await made(edge, max_output_tokens=2)
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert (await streamed(edge, max_output_tokens=2))[-1]["type"] == "response.incomplete"
    # What came of it can be gone on from.
    await made(edge, previous_response_id=response["id"])


@pytest.mark.parametrize(
    ("error", "param", "code"),
    [
        (InvalidField("chat.messages[1].content[0]", "no"), "input[1].content[0]", "invalid_value"),
        (InvalidField("chat.messages[0].role", "no"), "input[0].role", "invalid_value"),
        (InvalidField("stop.max_tokens", "no"), "max_output_tokens", "invalid_value"),
        (ContextLengthExceeded(99, 50), "input", "context_length_exceeded"),
    ],
)
async def test_errors_of_workers(
    edge: RunningEdge, worker: ScriptedWorker, error: Exception, param: str, code: str
) -> None:
    first = await made(edge, input="before")
    worker.backend.script = Script(errors={ADMISSION: error})
    question = [{"role": "user", "content": "hi"}] * 2
    for stream in (False, True):
        status, body = await ask(edge, input=question, stream=stream)
        assert (status, body["error"]["code"]) == (400, code)
        assert body["error"]["param"] == param
        assert "messages" not in body["error"]["message"]
    # Items that the server had already are in nobody's list.
    status, body = await ask(edge, input=question, previous_response_id=first["id"])
    if "[" in param:
        assert body["error"]["param"] == "input"


async def test_an_error_about_a_call_names_its_item(
    edge: RunningEdge, worker: ScriptedWorker
) -> None:
    kept = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "So:"},
        *(
            {"type": "function_call", "call_id": id_, "name": "f", "arguments": "{}"}
            for id_ in "ab"
        ),
        *({"type": "function_call_output", "call_id": id_, "output": "x"} for id_ in "ab"),
    ]
    # Text and calls are one message of the chat, and items of their own.
    for path, param in (
        ("tool_calls[1].arguments_json", "input[3].arguments"),
        ("content[0]", "input[1].content[0]"),
        ("tool_calls[9].id", "input[1].call_id"),
    ):
        error = InvalidField(f"chat.messages[1].{path}", "is odd")
        worker.backend.script = Script(errors={ADMISSION: error})
        status, body = await ask(edge, input=kept)
        assert (status, body["error"]["param"]) == (400, param)
        assert body["error"]["message"] == f"Invalid '{param}': is odd."


async def test_an_error_in_a_stream(edge: RunningEdge, worker: ScriptedWorker) -> None:
    worker.backend.script = Script(errors={2: InvalidField("n", "too late")})
    events = await streamed(edge)
    assert [event["type"] for event in events[-2:]] == ["error", "response.failed"]
    response = events[-1]["response"]
    assert reduced(events) == response
    assert response["error"]["code"] == "server_error"
    assert response["output"][0]["content"][0]["text"] == "Hello,"
    assert await edge.get(f"{PATH}/{response['id']}") == (200, response)


async def test_a_client_that_leaves_ends_its_response(
    edge: RunningEdge, worker: ScriptedWorker
) -> None:
    worker.backend.script = Script(paced=True, endless=True)
    async with streaming(edge) as events:
        await anext(events)
    await worker.backend.until(lambda: worker.backend.running == 0)


async def test_unknown_models_and_bodies(edge: RunningEdge) -> None:
    status, body = await ask(edge, model="other")
    assert (status, body["error"]["code"]) == (404, "model_not_found")
    async with edge.http.post(edge.url + PATH, data=b"{") as answer:
        assert answer.status == 400
    async with edge.http.put(edge.url + PATH, json={}) as answer:
        assert answer.status == 405


# ---------------------------------------------------------------------------------------- strangers


class _Named(Open):
    """Everyone is who they say they are."""

    async def identify(self, headers: Mapping[str, str]) -> Identity:
        return Identity(headers.get("x-who", ""))


async def test_nobody_finds_what_is_anothers(edge: RunningEdge) -> None:
    edge.server.edge.access = _Named()
    edge.http.headers["x-who"] = "me"
    mine = await made(edge, input="mine")
    edge.http.headers["x-who"] = "you"
    strange: list[tuple[int, Any]] = [
        await edge.get(f"{PATH}/{mine['id']}"),
        await edge.get(f"{PATH}/{mine['id']}/input_items"),
        await delete(edge, mine["id"]),
        await ask(edge, f"{PATH}/{mine['id']}/cancel"),
        await ask(edge, input=[{"id": mine["output"][0]["id"]}]),
    ]
    assert [status for status, _ in strange] == [404] * 5
    status, body = await ask(edge, previous_response_id=mine["id"])
    assert (status, body["error"]["code"]) == (400, "previous_response_not_found")
    edge.http.headers["x-who"] = "me"
    assert (await edge.get(f"{PATH}/{mine['id']}"))[1] == mine


# ----------------------------------------------------------------------------------- a broken store


async def test_without_a_store_there_are_answers(worker: ScriptedWorker, tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("no directory")
    where = str(blocked / "responses.db")
    async with running_edge(worker.address, store_url=where) as edge:
        response = await made(edge)
        assert response["output"][0]["content"][0]["text"] == "Hello, world!"
        events = await streamed(edge)
        assert events[-1]["type"] == "response.completed"
        for status, body in (
            await edge.get(f"{PATH}/{response['id']}"),
            await ask(edge, previous_response_id=response["id"]),
            await ask(edge, background=True),
        ):
            assert (status, body["error"]["code"]) == (503, "service_unavailable")
        await worker.backend.until(lambda: worker.backend.running == 0)


async def test_a_response_that_is_too_large_is_answered(worker: ScriptedWorker) -> None:
    async with running_edge(worker.address, store_max_response_bytes=2**16) as edge:
        response = await made(edge, input="x" * 2**17)
        assert response["status"] == "completed"
        assert (await edge.get(f"{PATH}/{response['id']}"))[0] == 404
