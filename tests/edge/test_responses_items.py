"""Items as clients send them: kept in OpenAI's shape, said as a chat, left out where they do not fit."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import ResponseInputItemParam
from pydantic import TypeAdapter

from edge.errors import ApiError
from edge.openai.checks import validate
from edge.openai.messages import AssistantMessage, SystemMessage, ToolMessage, UserMessage
from edge.responses import conversation, ids, items, sealed, truncation
from edge.responses.request import ResponseRequest

IDS = ids.Ids("a" * 32)
IMAGE = {"type": "input_image", "image_url": "data:image/png;base64,aGk="}


def kept(*given_items: Any, found: Any = None) -> list[Any]:
    asked = validate(ResponseRequest, {"model": "m", "input": list(given_items)})
    return items.plain(asked.input, IDS, found or {})


def said(*given_items: Any, instructions: str | None = None) -> list[Any]:
    parsed = items.parse(kept(*given_items))
    conversation.check_calls(parsed)
    return conversation.conversation(parsed, instructions).messages


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def assistant(text: str) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "status": "completed",
        "content": [part],
    }


def thoughts(text: str, **fields: Any) -> dict[str, Any]:
    content = [{"type": "reasoning_text", "text": text}]
    return {"type": "reasoning", "id": "rs_1", "summary": [], "content": content, **fields}


def call(id_: str = "c1", **fields: Any) -> dict[str, Any]:
    made = {"type": "function_call", "call_id": id_, "name": "f", "arguments": "{}"}
    return {**made, **fields}


def output(id_: str = "c1", given_output: Any = "done") -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": id_, "output": given_output}


def test_items_are_kept_whole_with_ids() -> None:
    text = {"type": "input_text", "text": "hi"}
    question, answer, asked, told, thought = kept(
        user("hi"),
        assistant("Hello"),
        call(),
        output(given_output=[text]),
        thoughts("hm"),
    )
    root = "a" * 32
    assert question == {
        "id": f"msg_{root}i0",
        "type": "message",
        "role": "user",
        "status": "completed",
        "content": [text],
    }
    assert answer == assistant("Hello")
    assert asked == {**call(), "id": f"fc_{root}i2", "status": "completed"}
    assert told == {**output(given_output=[text]), "id": f"fco_{root}i3", "status": "completed"}
    assert thought == {**thoughts("hm"), "status": "completed"}


def test_kept_items_can_be_sent_again() -> None:
    audio = {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}}
    file = {"type": "input_file", "file_data": "aGk=", "filename": "a.txt"}
    once = kept(
        {"role": "developer", "content": [{"type": "input_text", "text": "Be brief."}]},
        user([{"type": "text", "text": "hi"}, IMAGE, audio, file]),
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}], "phase": "x"},
        thoughts("hm"),
        call(),
        output(given_output=[IMAGE]),
    )
    assert kept(*once) == once
    adapter: TypeAdapter[Any] = TypeAdapter(ResponseInputItemParam)
    for item in once:
        if "input_audio" not in str(item):
            adapter.validate_python(item)


def test_no_two_items_have_one_id() -> None:
    answer = assistant("yes")
    given_items = validate(
        ResponseRequest,
        {"model": "m", "input": [answer, answer, {"id": "msg_1"}, {**user("hi"), "id": "msg_2"}]},
    )
    found = items.plain(given_items.input, IDS, {"msg_1": answer}, [{**answer, "id": "msg_2"}])
    assert [item["id"] for item in found] == ["msg_1", *(f"msg_{'a' * 32}i{n}" for n in (1, 2, 3))]
    assert [item["content"] for item in found[:3]] == [answer["content"]] * 3


def test_references_become_what_they_refer_to() -> None:
    there = assistant("Hello")
    for reference in ({"type": "item_reference", "id": "msg_1"}, {"id": "msg_1"}):
        assert kept(user("hi"), reference, found={"msg_1": there})[1] == there


@pytest.mark.parametrize(
    ("id_", "response"),
    [
        (IDS.output("message", 0), IDS.response),
        (IDS.output("reasoning", 12), IDS.response),
        (IDS.input("function_call_output", 3), IDS.response),
        ("msg_1", None),
        ("", None),
    ],
)
def test_an_items_id_says_whose_it_is(id_: str, response: str | None) -> None:
    assert ids.response_of(id_) == response


def test_one_turn_is_one_message() -> None:
    question, turn, told, answer = said(
        user("hi"),
        thoughts("hm"),
        assistant("I look."),
        call(),
        output(),
        assistant("Done."),
    )
    assert (type(question), question.content) == (UserMessage, "hi")
    assert (turn.content, turn.reasoning_content) == ("I look.", "hm")
    assert turn.tool_calls[0].function.name == "f"
    assert (type(told), told.tool_call_id, told.content) == (ToolMessage, "c1", "done")
    assert (answer.content, answer.reasoning_content, answer.tool_calls) == ("Done.", None, None)


def test_outputs_follow_their_calls_wherever_they_stand() -> None:
    messages = said(user("hi"), call("c1"), call("c2"), user("quick"), output("c2"), output("c1"))
    assert [type(message) for message in messages] == [
        UserMessage,
        AssistantMessage,
        ToolMessage,
        ToolMessage,
        UserMessage,
    ]
    assert [one.id for one in messages[1].tool_calls] == ["c1", "c2"]
    assert [message.tool_call_id for message in messages[2:4]] == ["c1", "c2"]


def test_two_answers_are_two_messages_with_their_own_thoughts() -> None:
    first, second = said(thoughts("a"), assistant("A"), thoughts("b"), assistant("B"))
    assert (first.content, first.reasoning_content) == ("A", "a")
    assert (second.content, second.reasoning_content) == ("B", "b")


def test_thoughts_come_back_however_they_were_carried() -> None:
    closed = {"type": "reasoning", "summary": [], "encrypted_content": sealed.closed("hm")}
    summed = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]}
    for one in (closed, summed):
        assert said(one, assistant("A"))[0].reasoning_content == "hm"
    # Thoughts that led to nothing belong to no later answer.
    question, answer = said(thoughts("left alone"), user("hi"), assistant("A"))
    assert (question.content, answer.reasoning_content) == ("hi", None)


def test_thoughts_that_another_server_closed_are_refused() -> None:
    with pytest.raises(ApiError) as refused:
        kept(user("hi"), {"type": "reasoning", "summary": [], "encrypted_content": "gAAAA"})
    assert refused.value.param == "input[1].encrypted_content"
    assert refused.value.code == "invalid_encrypted_content"


def test_roles_and_instructions() -> None:
    first, second, third = said(
        {"role": "developer", "content": "d"},
        user([{"type": "input_text", "text": "a"}, IMAGE]),
        instructions="i",
    )
    assert (type(first), first.role, first.content) == (SystemMessage, "system", "i")
    assert (second.role, second.content) == ("developer", "d")
    assert [part.type for part in third.content] == ["text", "image_url"]


def test_an_answer_without_text_comes_back() -> None:
    assert said(user("hi"), {"role": "assistant", "content": []})[1].content == ""


@pytest.mark.parametrize(
    ("given_items", "message"),
    [
        ([output()], "No tool call found for function call output with call_id c1."),
        ([output(), call()], "No tool call found for function call output with call_id c1."),
        ([user("hi"), call()], "No tool output found for function call c1."),
    ],
)
def test_calls_and_outputs_belong_together(given_items: list[Any], message: str) -> None:
    with pytest.raises(ApiError) as refused:
        said(*given_items)
    assert (refused.value.message, refused.value.param) == (message, "input")


def test_a_call_that_was_cut_off_is_forgotten() -> None:
    messages = said(user("hi"), call(status="incomplete", arguments='{"a'), user("again"))
    assert [message.content for message in messages] == ["hi", "again"]


# ---------------------------------------------------------------------------------- truncation


def parsed(*given_items: Any) -> list[Any]:
    return items.parse(kept(*given_items))


def texts(left: Any) -> list[str]:
    return [item.content[0].text for item in left]


def test_the_oldest_go_and_what_is_left_begins_with_the_user() -> None:
    turns = [
        turn
        for number in range(10)
        for turn in (user(f"question {number}"), assistant(f"answer {number}"))
    ]
    left: Any = truncation.shorter(parsed(*turns, user("last")), tokens=200, limit=100)
    assert left is not None
    assert left[0].role == "user"
    assert texts(left)[-1] == "last"
    assert (
        texts(left)
        == [*[text for turn in turns for text in texts(parsed(turn))], "last"][-len(left) :]
    )
    assert 6 < len(left) < 12


def test_instructions_and_the_question_stay() -> None:
    left: Any = truncation.shorter(
        parsed(
            {"role": "system", "content": "rules"},
            user("old"),
            assistant("older"),
            user("now"),
            call("c1"),
            output("c1"),
            call("c2"),
            output("c2"),
        ),
        tokens=1000,
        limit=10,
    )
    assert left is not None
    assert [item.type for item in left] == [
        "message",
        "message",
        "function_call",
        "function_call_output",
    ]
    assert left[-1].call_id == "c2"
    assert texts(left[:2]) == ["rules", "now"]


def test_nothing_is_left_to_go() -> None:
    assert truncation.shorter(parsed(user("now")), tokens=20, limit=10) is None
    assert truncation.shorter([], tokens=20, limit=10) is None


CONVERSATIONS = st.lists(
    st.sampled_from(("user", "assistant", "system", "call", "thought")), min_size=1, max_size=12
)


@given(CONVERSATIONS, st.integers(2, 100), st.data())
def test_what_is_left_is_a_conversation(kinds: list[str], tokens: int, data: Any) -> None:
    made: list[Any] = []
    for number, kind in enumerate(kinds):
        match kind:
            case "user":
                made.append(user(f"u{number}"))
            case "assistant":
                made.append(assistant(f"a{number}"))
            case "system":
                made.append({"role": "system", "content": f"s{number}"})
            case "call":
                made += [call(f"c{number}"), output(f"c{number}")]
            case "thought":
                made.append(thoughts(f"t{number}"))
    whole = parsed(*made)
    limit = data.draw(st.integers(1, tokens - 1))
    rounds = 0
    left: list[Any] | None = whole
    while left is not None:
        conversation.check_calls(left)
        before = left
        left = truncation.shorter(left, tokens, limit)
        # Something goes every time, in its order, and never all.
        assert left is None or (0 < len(left) < len(before) and all(one in before for one in left))
        rounds += 1
        assert rounds <= len(whole) + 1
    systems = [item for item in whole if getattr(item, "role", "") == "system"]
    assert [item for item in before if getattr(item, "role", "") == "system"] == systems


@pytest.mark.parametrize(
    ("context", "most", "room"), [(1000, None, 750), (1000, 100, 900), (1000, 900, 500)]
)
def test_room_for_the_answer(context: int, most: int | None, room: int) -> None:
    assert truncation.room(context, most) == room
