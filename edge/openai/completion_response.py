"""The contract's events as OpenAI's text completion: chunk by chunk, or gathered into one. Pure.

Choices are numbered over all prompts: those of the first, then those of the second.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from edge.openai.chat_response import fingerprint, finish, usage
from edge.openai.completion_logprobs import PromptTokens, Tokens, prompt_tokens
from protos.inference.v1 import inference_pb2 as pb

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Header:
    """What every chunk of an answer repeats, and what was asked for.

    `created` is in seconds since 1970.
    """

    id: str
    created: int
    model: str
    # Choices of each prompt.
    n: int = 1
    # What is told of each prompt before its answer. None: it is in its tokens, which come.
    echo: tuple[str | None, ...] = ("",)
    # Alternatives of each token. None: no logprobs.
    logprobs: int | None = None
    # Whether each prompt's tokens are told, too.
    of_prompt: bool = False

    @property
    def choices(self) -> int:
        """Of all prompts."""
        return self.n * len(self.echo)


@dataclass(slots=True)
class Piece:
    """What a choice gained."""

    index: int
    text: str
    logprobs: Json | None = None
    finish: str | None = None


class _Choices:
    """Deltas to pieces. State: what is known of each prompt, and of each choice's tokens."""

    def __init__(self, header: Header) -> None:
        self._header = header
        self._tokens: dict[int, Tokens] = {}
        self._prompts: dict[int, PromptTokens] = {}
        # What waits for its prompt's tokens, which one choice of the prompt tells for all.
        self._held: dict[int, list[pb.Delta]] = {}
        self._open = set(range(header.choices))

    def started(self) -> Iterator[Piece]:
        """The prompts, as far as they are told without their tokens."""
        header = self._header
        if not header.of_prompt:
            for index in range(header.choices):
                text = header.echo[index // header.n]
                if text:
                    yield Piece(index, text)

    def delta(self, delta: pb.Delta) -> Iterator[Piece]:
        """The delta's pieces, and those that waited for what it tells."""
        header = self._header
        if delta.index not in self._open:
            return
        prompt = delta.index // header.n
        if header.of_prompt and prompt not in self._prompts:
            held = self._held.setdefault(prompt, [])
            held.append(delta)
            if not delta.prompt_logprobs:
                return
            yield from self._release(prompt, delta.prompt_logprobs)
            return
        yield from self._pieces(delta)

    def finished(self) -> Iterator[Piece]:
        """What still waits, and the ends that did not come."""
        for prompt in sorted(self._held):
            yield from self._release(prompt, ())
        for index in sorted(self._open):
            yield Piece(index, "", None, finish(pb.FINISH_REASON_STOP))
        self._open.clear()

    def _release(self, prompt: int, entries: Sequence[pb.TokenLogprob]) -> Iterator[Piece]:
        header = self._header
        self._prompts[prompt] = prompt_tokens(header.echo[prompt], entries, header.logprobs or 0)
        for delta in self._held.pop(prompt):
            yield from self._pieces(delta)

    def _pieces(self, delta: pb.Delta) -> Iterator[Piece]:
        index, text, logprobs = delta.index, delta.text, None
        if self._header.logprobs is not None:
            if index not in self._tokens:
                yield from self._begun(index)
            tokens = self._tokens[index]
            logprobs = tokens.add(text, delta.logprobs)
        if text or logprobs:
            yield Piece(index, text, logprobs)
        if delta.HasField("finish"):
            self._open.discard(index)
            rest = self._tokens[index].rest() if index in self._tokens else None
            yield Piece(index, "", rest, finish(delta.finish.reason))

    def _begun(self, index: int) -> Iterator[Piece]:
        """The prompt before a choice's first piece, if its tokens are told."""
        header = self._header
        prompt = index // header.n
        known = self._prompts.get(prompt)
        text = header.echo[prompt] or "" if known is None else known.text
        self._tokens[index] = Tokens(header.logprobs or 0, len(text))
        if known is not None and (known.text or known.logprobs):
            yield Piece(index, known.text, known.logprobs)


class Chunks:
    """A stream's chunks: the prompt where it is echoed, text, the end of each choice, usage."""

    def __init__(self, header: Header, include_usage: bool = False) -> None:
        self._header = header
        self._include_usage = include_usage
        self._fingerprint = ""
        self._choices = _Choices(header)

    def started(self, started: pb.Started) -> Iterator[Json]:
        """The prompts that are echoed."""
        self._fingerprint = fingerprint(started.model_identity)
        yield from map(self._chunk, self._choices.started())

    def delta(self, delta: pb.Delta) -> Iterator[Json]:
        """None for a delta that only counts, two for one that also ends its choice."""
        yield from map(self._chunk, self._choices.delta(delta))

    def finished(self, finished: pb.Finished) -> Iterator[Json]:
        """What is missing of the choices, and the usage where it was asked for."""
        yield from map(self._chunk, self._choices.finished())
        if self._include_usage:
            yield {**self._base([]), "usage": usage(finished.usage)}

    def _chunk(self, piece: Piece) -> Json:
        choice = {
            "text": piece.text,
            "index": piece.index,
            "logprobs": piece.logprobs,
            "finish_reason": piece.finish,
        }
        return self._base([choice])

    def _base(self, choices: list[Json]) -> Json:
        base: Json = {
            "id": self._header.id,
            "object": "text_completion",
            "created": self._header.created,
            "choices": choices,
            "model": self._header.model,
            "system_fingerprint": self._fingerprint,
        }
        if self._include_usage:
            base["usage"] = None
        return base


class Gathered:
    """A whole answer, gathered from its events."""

    def __init__(self, header: Header) -> None:
        self._header = header
        self._identity = ""
        self._choices = _Choices(header)
        self._texts: list[list[str]] = [[] for _ in range(header.choices)]
        self._logprobs: list[Json | None] = [None] * header.choices
        self._finish = [finish(pb.FINISH_REASON_STOP)] * header.choices
        self._usage = pb.Usage()

    def started(self, started: pb.Started) -> None:
        """Notes who answers."""
        self._identity = started.model_identity
        self._add(self._choices.started())

    def delta(self, delta: pb.Delta) -> None:
        """Adds to the delta's choice."""
        self._add(self._choices.delta(delta))

    def finished(self, finished: pb.Finished) -> None:
        """Notes the usage."""
        self._add(self._choices.finished())
        self._usage = finished.usage

    def json(self) -> Json:
        """The response's body."""
        return {
            "id": self._header.id,
            "object": "text_completion",
            "created": self._header.created,
            "model": self._header.model,
            "system_fingerprint": fingerprint(self._identity),
            "choices": [
                {
                    "text": "".join(texts),
                    "index": index,
                    "logprobs": self._logprobs[index],
                    "finish_reason": self._finish[index],
                }
                for index, texts in enumerate(self._texts)
            ],
            "usage": usage(self._usage),
        }

    def _add(self, pieces: Iterator[Piece]) -> None:
        for piece in pieces:
            self._texts[piece.index].append(piece.text)
            if piece.finish is not None:
                self._finish[piece.index] = piece.finish
            if piece.logprobs is None:
                continue
            known = self._logprobs[piece.index]
            if known is None:
                self._logprobs[piece.index] = {
                    name: list(values) for name, values in piece.logprobs.items()
                }
            else:
                for name, values in piece.logprobs.items():
                    known[name].extend(values)
