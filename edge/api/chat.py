"""POST /v1/chat/completions."""

from __future__ import annotations

import secrets
import time
import uuid
from collections.abc import Iterator

from aiohttp import web

from edge import answering, sse
from edge.errors import ApiError
from edge.intake import admitted
from edge.openai import chat_rules, chat_to_proto
from edge.openai.chat_response import Chunks, Gathered, Header
from edge.reply import json_response
from protos.inference.v1 import inference_pb2 as pb


async def chat_completions(request: web.Request) -> web.StreamResponse:
    """POST /v1/chat/completions."""
    async with admitted(request) as intake:
        chat = chat_rules.read(
            intake.body, intake.default_model, intake.settings.strict, intake.of_path
        )
        model = intake.model(chat.model)
        wanted = chat_to_proto.translate(chat, secrets.randbits(63), model.capabilities)
        chat_to_proto.check_model(wanted, model)
        header = Header(
            id=f"chatcmpl-{uuid.uuid4().hex}",
            created=int(time.time()),
            model=chat.model,
            n=chat.n or 1,
            legacy=chat.functions is not None,
        )
        with answering.generation(intake, wanted) as generation:
            if chat.stream:
                options = chat.stream_options
                chunks = Chunks(header, include_usage=bool(options and options.include_usage))
                return await answering.streamed(intake, generation, _Stream(chunks))
            gathered = Gathered(header, logprobs=bool(chat.logprobs))
            await answering.whole(intake, generation, gathered)
            return json_response(gathered.json())


class _Stream:
    """Chunks as events, and OpenAI's end of a stream."""

    def __init__(self, chunks: Chunks) -> None:
        self._chunks = chunks

    def started(self, started: pb.Started) -> Iterator[bytes]:
        return map(sse.event, self._chunks.started(started))

    def delta(self, delta: pb.Delta) -> Iterator[bytes]:
        return map(sse.event, self._chunks.delta(delta))

    def finished(self, finished: pb.Finished) -> Iterator[bytes]:
        yield from map(sse.event, self._chunks.finished(finished))
        yield sse.DONE

    def failed(self, error: ApiError) -> Iterator[bytes]:
        yield sse.event(error.body())
