"""A Backend that does as it is told, for tests of everything around a model.

Its tokenizer: a token of a text is one of its UTF-8 bytes; the tokens it generates are numbered
from 256, by their place in the answer.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import AsyncGenerator, Callable

from protos.inference.v1 import inference_pb2 as pb
from services.worker.backend import Backend, Call
from services.worker.errors import ContextLengthExceeded
from tests.fakes.script import ADMISSION, Script, Scripts

VOCABULARY = 65536
DIMENSIONS = 8
ALL_CAPABILITIES = tuple(
    value for value in pb.Capability.values() if value != pb.CAPABILITY_UNSPECIFIED
)


def model_info(**fields: object) -> pb.ModelInfo:
    """What the scripted backend serves; every capability unless `capabilities` says less."""
    defaults: dict[str, object] = {
        "identity": "sha256:" + "0" * 64,
        "name": "scripted",
        "kind": "scripted",
        "version": "0",
        "owned_by": "caravan",
        "capabilities": ALL_CAPABILITIES,
        "context_length": 4096,
        "trained_context_length": 4096,
        "vocabulary_size": VOCABULARY,
        "embedding_dimensions": DIMENSIONS,
        "architecture": "scripted",
        "max_running": 8,
    }
    return pb.ModelInfo(**{**defaults, **fields})  # type: ignore[arg-type]


class ScriptedBackend(Backend):
    """Follows `script`; counts what it was asked, so that tests can wait and assert."""

    def __init__(self, script: Scripts = Script(), model: pb.ModelInfo | None = None) -> None:  # noqa: B008
        self.script: Scripts = script
        self.info = model or model_info()
        # Set these to what `load` shall report; `running` is counted.
        self.report = pb.LoadReport(kv_cells_total=4096, max_running=8, max_waiting=64)
        # Raised by `start`, and what it waits for.
        self.start_error: Exception | None = None
        self.may_start = asyncio.Event()
        self.may_start.set()
        self.started = self.stopped = False
        # Generators that were entered and left, and those requests in order of arrival.
        self.opened = self.closed = 0
        self.requests: list[pb.GenerateRequest] = []
        self.calls: list[Call] = []
        # Tokens that were generated, all requests together.
        self.produced = 0
        self._steps = asyncio.Semaphore(0)
        self._changed = asyncio.Event()
        # Why it is lost as soon as it has started.
        self.lost_at_start = ""

    @property
    def running(self) -> int:
        """Generators that are open."""
        return self.opened - self.closed

    def step(self, tokens: int = 1) -> None:
        """Lets so many tokens of paced scripts go."""
        for _ in range(tokens):
            self._steps.release()

    async def until(self, condition: Callable[[], bool], seconds: float = 30.0) -> None:
        """Waits for a condition on this backend's counts. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def start(self) -> None:
        """See Backend."""
        await self.may_start.wait()
        if self.start_error is not None:
            raise self.start_error
        self.started = True
        self._changed.set()

    async def stop(self) -> None:
        """See Backend."""
        self.stopped = True
        self._changed.set()

    async def lost(self) -> str:
        """See Backend."""
        return self.lost_at_start or await super().lost()

    def model(self) -> pb.ModelInfo:
        """See Backend."""
        return self.info

    def load(self) -> pb.LoadReport:
        """See Backend."""
        report = pb.LoadReport()
        report.CopyFrom(self.report)
        report.running = self.running
        return report

    async def generate(
        self, request: pb.GenerateRequest, call: Call
    ) -> AsyncGenerator[pb.GenerateResponse, None]:
        """See Backend."""
        script = self.script if isinstance(self.script, Script) else self.script(request)
        if request.output.prompt_logprobs and len(_prompt(request)) > self.info.context_length > 0:
            raise ContextLengthExceeded(len(_prompt(request)), self.info.context_length)
        self.requests.append(request)
        self.calls.append(call)
        self.opened += 1
        self._changed.set()
        try:
            await self._before(script, ADMISSION)
            yield pb.GenerateResponse(
                started=pb.Started(
                    model_identity=self.info.identity,
                    prompt_tokens=script.prompt_tokens,
                    seed=request.sampling.seed if request.sampling.HasField("seed") else 42,
                )
            )
            choices = [_Choice(script, request, index) for index in range(request.n or 1)]
            place = 0
            while any(not choice.finished for choice in choices):
                for choice in choices:
                    if choice.finished or place < choice.first:
                        continue
                    if not choice.at_end(place):
                        await self._before(script, place)
                        self.produced += 1
                        self._changed.set()
                    yield pb.GenerateResponse(delta=choice.delta(place))
                place += 1
            completion = sum(choice.tokens for choice in choices)
            yield pb.GenerateResponse(
                finished=pb.Finished(
                    usage=pb.Usage(
                        prompt_tokens=script.prompt_tokens,
                        completion_tokens=completion,
                        cached_tokens=script.cached_tokens,
                        reasoning_tokens=min(len(script.reasoning) * len(choices), completion),
                    ),
                    timings=pb.Timings(),
                )
            )
        finally:
            self.closed += 1
            self._changed.set()

    async def embed(self, request: pb.EmbedRequest, call: Call) -> pb.EmbedResponse:
        """Vectors made of a hash of the input: equal inputs, equal vectors."""
        answer = pb.EmbedResponse()
        for item in request.inputs:
            data = bytes(item.text, "utf-8") or repr(list(item.tokens.ids)).encode()
            answer.usage.prompt_tokens += len(item.tokens.ids) or len(data)
            raw = [byte - 127.5 for byte in hashlib.sha256(data).digest()[:DIMENSIONS]]
            raw = raw[: request.dimensions or DIMENSIONS]
            norm = math.sqrt(sum(value * value for value in raw))
            answer.embeddings.add(values=[value / norm for value in raw])
        return answer

    async def rerank(self, request: pb.RerankRequest, call: Call) -> pb.RerankResponse:
        """Scores by the share of the query's words that the document has."""
        query = set(request.query.split())
        scored = sorted(
            (-len(query & set(document.split())) / max(1, len(query)), index)
            for index, document in enumerate(request.documents)
        )
        answer = pb.RerankResponse()
        for score, index in scored[: request.top_n or None]:
            answer.results.add(index=index, score=-score)
        answer.usage.prompt_tokens = len(request.query.split()) * len(request.documents)
        return answer

    async def tokenize(self, request: pb.TokenizeRequest, call: Call) -> pb.TokenizeResponse:
        """One token a byte."""
        data = request.text.text.encode()
        pieces = [bytes((byte,)) for byte in data] if request.with_pieces else []
        return pb.TokenizeResponse(token_ids=list(data), pieces=pieces)

    async def detokenize(self, request: pb.DetokenizeRequest, call: Call) -> pb.DetokenizeResponse:
        """One byte a token."""
        data = bytes(token for token in request.token_ids if token < 256)
        return pb.DetokenizeResponse(text=data.decode(errors="replace"))

    async def render_prompt(
        self, request: pb.RenderPromptRequest, call: Call
    ) -> pb.RenderPromptResponse:
        """A line a message."""
        lines = [
            pb.Role.Name(message.role).removeprefix("ROLE_").lower()
            + ": "
            + "".join(part.text for part in message.content)
            for message in request.chat.messages
        ]
        prompt = "\n".join(lines)
        ids = list(prompt.encode()) if request.with_token_ids else []
        return pb.RenderPromptResponse(prompt=prompt, token_ids=ids)

    async def _before(self, script: Script, place: int) -> None:
        if place in script.errors:
            raise script.errors[place]
        if script.hang_at == place:
            await asyncio.Event().wait()
        if place == ADMISSION:
            return
        if script.paced:
            await self._steps.acquire()
        if script.interval:
            await asyncio.sleep(script.interval)


class _Choice:
    """One choice of one answer, token by token."""

    def __init__(self, script: Script, request: pb.GenerateRequest, index: int) -> None:
        self.index = index
        self.tokens = 0
        self.finished = False
        # First place that is not yet delivered: resumed choices start later.
        self.first = 0
        self._script = script
        self._output = request.output
        self._endless = script.endless or request.stop.ignore_eos
        self._limit: int | None = None
        if request.stop.HasField("max_tokens"):
            self._limit = request.stop.max_tokens
        # Of choice 0 and its first delta, as workers do it.
        self._prompt = _prompt(request) if request.output.prompt_logprobs and index == 0 else []
        self._is_chat = request.HasField("chat")
        self._all = [*script.reasoning, *script.tokens]
        self._bytes = 0
        for resumed in request.resume.choices:
            if resumed.index == index:
                self.first = self.tokens = len(resumed.token_ids)
                self.finished = resumed.finished
                self._bytes = resumed.delivered_bytes

    def at_end(self, place: int) -> bool:
        """Whether no token is at this place."""
        if self._limit is not None and place >= self._limit:
            return True
        return place >= len(self._all) and not (self._endless and self._all)

    def delta(self, place: int) -> pb.Delta:
        """The token at this place, or after the last one the finish."""
        delta = pb.Delta(index=self.index)
        if self.at_end(place):
            self.finished = True
            self._finish(delta, cut=self._limit is not None and place >= self._limit)
        else:
            self._token(delta, place)
        for at, token in enumerate(self._prompt):
            entry = delta.prompt_logprobs.add(token_id=token, token=_piece(token))
            if at:
                entry.logprob = -0.25
                self._likeliest(entry)
        self._prompt = []
        delta.completion_tokens = self.tokens
        delta.delivered_bytes = self._bytes
        return delta

    def _token(self, delta: pb.Delta, place: int) -> None:
        text = self._all[place % len(self._all)]
        if place < len(self._script.reasoning):
            delta.reasoning = text
        else:
            delta.text = text
        self.tokens += 1
        self._bytes += len(text.encode())
        token = 256 + place % (VOCABULARY - 256)
        if self._output.token_ids:
            delta.token_ids.append(token)
        if self._output.logprobs:
            entry = delta.logprobs.add(token_id=token, token=text.encode(), logprob=-0.5)
            self._likeliest(entry)
            if self._is_chat:
                delta.in_text.append(place >= len(self._script.reasoning))

    def _likeliest(self, entry: pb.TokenLogprob) -> None:
        for rank in range(self._output.top_logprobs):
            entry.top.add(token_id=rank, token=bytes((65 + rank,)), logprob=-0.5 - rank)

    def _finish(self, delta: pb.Delta, cut: bool) -> None:
        script = self._script
        reason = pb.FINISH_REASON_STOP
        if (cut and self.tokens < len(self._all)) or (cut and self._endless):
            reason = pb.FINISH_REASON_LENGTH
        elif script.tool_calls:
            reason = pb.FINISH_REASON_TOOL_CALLS
            for index, scripted in enumerate(script.tool_calls):
                delta.tool_calls.add(index=index, id=f"call_{index}", name=scripted.name)
                for fragment in scripted.arguments:
                    delta.tool_calls.add(index=index, arguments_json=fragment)
        delta.finish.reason = script.finish if script.finish is not None else reason
        delta.finish.matched_stop = script.matched_stop


def _prompt(request: pb.GenerateRequest) -> list[int]:
    return list(request.tokens.ids) or list(request.text.text.encode())


def _piece(token: int) -> bytes:
    return bytes((token,)) if token < 256 else b""
