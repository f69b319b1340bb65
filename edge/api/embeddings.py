"""POST /v1/embeddings."""

from __future__ import annotations

import asyncio
import math

from aiohttp import web

from edge import calling
from edge.intake import Intake, admitted
from edge.openai import embedding_request, embedding_response, splitting
from edge.openai.checks import able
from edge.openai.embedding_request import EmbeddingRequest
from edge.reply import json_response
from edge.together import together
from protos.inference.v1 import inference_pb2 as pb

# Of one answer of a worker: well below what the transport takes.
_MAX_ANSWER_BYTES = 2**25


async def embeddings(request: web.Request) -> web.StreamResponse:
    """POST /v1/embeddings."""
    async with admitted(request) as intake:
        asked = embedding_request.read(
            intake.body, intake.default_model, intake.settings.strict, intake.of_path
        )
        model = intake.model(asked.model)
        able(model, pb.CAPABILITY_EMBED, "embeddings")
        answer = await _embed(intake, asked, embedding_request.translate(asked, model), model)
        calling.used(intake, answer.usage)
        data = []
        as_base64 = asked.encoding_format == "base64"
        for written in embedding_response.slices(answer, as_base64=as_base64):
            data += written
            await asyncio.sleep(0)
        return json_response(embedding_response.json(data, asked.model, answer.usage))


async def _embed(
    intake: Intake, asked: EmbeddingRequest, wanted: pb.EmbedRequest, model: pb.ModelInfo
) -> pb.EmbedResponse:
    """All vectors, in their order, of as many workers as it is worth asking."""

    async def ask(part: slice) -> pb.EmbedResponse:
        question = pb.EmbedRequest(truncate=wanted.truncate, inputs=wanted.inputs[part])
        if wanted.HasField("dimensions"):
            question.dimensions = wanted.dimensions
        names = embedding_request.names(asked, part.start)
        found = await calling.call(intake, "Embed", question, pb.EmbedResponse, names)
        if len(found.embeddings) != len(question.inputs):
            raise RuntimeError("the worker gave another number of vectors than it was asked for")
        return found

    sizes = [len(each) for each in embedding_request.inputs(asked)]
    values = len(sizes) * (wanted.dimensions or model.embedding_dimensions)
    most = max(
        splitting.worthwhile(len(sizes), calling.workers(intake)),
        math.ceil(4 * values / _MAX_ANSWER_BYTES),
    )
    first, *others = await together(ask(part) for part in splitting.parts(sizes, most))
    for other in others:
        first.embeddings.extend(other.embeddings)
        first.usage.prompt_tokens += other.usage.prompt_tokens
    return first
