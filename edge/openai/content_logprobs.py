"""The logprobs of a chat's content: OpenAI lists no thoughts, calls, markers or end. Pure."""

from __future__ import annotations

from collections import deque

from protos.inference.v1 import inference_pb2 as pb


class ContentLogprobs:
    """Those of one choice, told as soon as it is known that they are the content's."""

    def __init__(self) -> None:
        self._waiting: deque[pb.TokenLogprob] = deque()
        # Whether the worker says which they are; and how many were passed before it did.
        self._told = False
        self._passed = 0
        # Whether content was the last that came.
        self._content = False

    def add(self, delta: pb.Delta) -> list[pb.TokenLogprob]:
        """The entries that go with the delta's text, after the choice's earlier deltas."""
        self._waiting.extend(delta.logprobs)
        self._told = self._told or bool(delta.in_text)
        return self._by_word(delta) if self._told else self._by_order(delta)

    def _by_word(self, delta: pb.Delta) -> list[pb.TokenLogprob]:
        own = []
        for is_content in delta.in_text:
            if self._passed:
                self._passed -= 1
            elif self._waiting:
                entry = self._waiting.popleft()
                if is_content:
                    own.append(entry)
        return own

    def _by_order(self, delta: pb.Delta) -> list[pb.TokenLogprob]:
        """As far as it can be told of a worker that says nothing: by what comes with, or next."""
        if not (delta.text or delta.reasoning or delta.tool_calls or self._content):
            return []
        if delta.text or delta.reasoning or delta.tool_calls:
            self._content = bool(delta.text)
        entries = list(self._waiting)
        self._waiting.clear()
        self._passed += len(entries)
        return entries if self._content else []
