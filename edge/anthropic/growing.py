"""An answer's content as blocks, which grow delta by delta: the data of a stream's events. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from edge.anthropic import signature
from protos.inference.v1 import inference_pb2 as pb

Json = dict[str, Any]


class Blocks:
    """One block is open at a time; what comes next decides when it ends.

    `show_thinking` false leaves the text of thoughts out. State: the open block, and the blocks
    of the calls so far.
    """

    def __init__(self, *, show_thinking: bool = True) -> None:
        self._show_thinking = show_thinking
        self._index = -1
        # Kind of the open block; empty: none is open.
        self._kind = ""
        # White space that came where no text is open: a block only if something follows.
        self._space = ""
        self._thoughts: list[str] = []
        # Index of the block of each call.
        self._calls: dict[int, int] = {}

    def delta(self, delta: pb.Delta) -> Iterator[Json]:
        """Thoughts, then text, then calls: the order in which models write them."""
        if delta.reasoning:
            yield from self._thinking(delta.reasoning)
        if delta.text:
            yield from self._text(delta.text)
        for piece in delta.tool_calls:
            yield from self._call(piece)

    def end(self) -> Iterator[Json]:
        """Closes what is open."""
        self._space = ""
        if not self._kind:
            return
        if self._kind == "thinking":
            signed = signature.of("".join(self._thoughts), shown=self._show_thinking)
            self._thoughts.clear()
            yield self._grown({"type": "signature_delta", "signature": signed})
        self._kind = ""
        yield {"type": "content_block_stop", "index": self._index}

    def _thinking(self, text: str) -> Iterator[Json]:
        if self._kind != "thinking":
            yield from self._open({"type": "thinking", "thinking": "", "signature": ""})
        self._space = ""
        self._thoughts.append(text)
        if self._show_thinking:
            yield self._grown({"type": "thinking_delta", "thinking": text})

    def _text(self, text: str) -> Iterator[Json]:
        if self._kind != "text":
            text = self._space + text
            if not text.strip():
                self._space = text
                return
            yield from self._open({"type": "text", "text": ""})
        yield self._grown({"type": "text_delta", "text": text})

    def _call(self, piece: pb.ToolCallDelta) -> Iterator[Json]:
        if piece.index not in self._calls:
            block = {"type": "tool_use", "id": piece.id, "name": piece.name, "input": {}}
            yield from self._open(block)
            self._calls[piece.index] = self._index
        if piece.arguments_json:
            grown = {"type": "input_json_delta", "partial_json": piece.arguments_json}
            yield self._grown(grown, self._calls[piece.index])

    def _open(self, block: Json) -> Iterator[Json]:
        yield from self.end()
        self._kind = block["type"]
        self._index += 1
        yield {"type": "content_block_start", "index": self._index, "content_block": block}

    def _grown(self, delta: Json, index: int | None = None) -> Json:
        at = self._index if index is None else index
        return {"type": "content_block_delta", "index": at, "delta": delta}
