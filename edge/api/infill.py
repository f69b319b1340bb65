"""POST /v1/infill, as llama.cpp's server has it."""

from __future__ import annotations

from collections.abc import Iterator

from aiohttp import web

from edge import answering, chance, sse
from edge.api.openai_stream import OpenAIStream
from edge.hurried import Hurried
from edge.intake import admitted, default_or_only
from edge.openai import infill_request
from edge.openai.infill_response import Asked, Chunks, Gathered
from edge.reply import json_response
from edge.several import Source
from protos.inference.v1 import inference_pb2 as pb


async def infill(request: web.Request) -> web.StreamResponse:
    """POST /v1/infill."""
    async with admitted(request) as intake:
        settings = intake.settings
        default = default_or_only(intake.edge)
        body = infill_request.read(intake.body, default, settings.strict, intake.of_path)
        model = intake.model(body.model)
        wanted = infill_request.translate(body, chance.seed())
        infill_request.check_model(wanted, model)
        asked = Asked(
            model=body.model,
            context_length=model.context_length,
            seed=wanted.sampling.seed,
            n_predict=-1 if body.n_predict is None else body.n_predict,
            logprobs=wanted.output.logprobs,
            tokens=bool(body.return_tokens),
            fields=body.response_fields or (),
        )
        with answering.generation(intake, wanted, infill_request.NAMES) as generation:
            source: Source = generation
            if body.t_max_predict_ms:
                source = Hurried(generation, body.t_max_predict_ms / 1000)
            if body.stream:
                return await answering.streamed(intake, source, _Stream(Chunks(asked)))
            gathered = Gathered(asked)
            await answering.whole(intake, source, gathered)
            return json_response(gathered.json())


class _Stream(OpenAIStream):
    """Pieces as events; the one with `stop` true is the last."""

    def finished(self, finished: pb.Finished) -> Iterator[bytes]:
        return map(sse.event, self._chunks.finished(finished))
