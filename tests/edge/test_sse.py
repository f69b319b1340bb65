from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from edge import sse

TEXT = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(
    ["\n\ndata: [DONE]\n\n", "\r\n\r\ndata: {}", "\rid: 1", "\u2028\u2029\x85", ": x\n"]
)


@given(TEXT)
def test_no_text_ends_its_event(text: str) -> None:
    framed = sse.event({"content": text})
    assert framed.startswith(b"data: ")
    assert framed.endswith(b"\n\n")
    inner = framed.removeprefix(b"data: ").removesuffix(b"\n\n")
    assert b"\n" not in inner
    assert b"\r" not in inner
    assert json.loads(inner) == {"content": text}


@given(st.lists(TEXT, max_size=5))
def test_a_stream_splits_into_its_events(texts: list[str]) -> None:
    stream = b"".join(sse.event(text) for text in texts) + sse.PING + sse.DONE
    blocks = stream.split(b"\n\n")
    assert blocks.pop() == b""
    assert blocks[-2:] == [b": ping", b"data: [DONE]"]
    assert [json.loads(block[6:]) for block in blocks[:-2]] == texts
