"""POST /v1/rerank."""

from __future__ import annotations

from aiohttp import web

from edge import calling, chance
from edge.intake import Intake, admitted
from edge.openai import rerank_request, rerank_response, splitting
from edge.openai.checks import able
from edge.openai.rerank_request import RerankRequest
from edge.reply import json_response
from edge.together import together
from protos.inference.v1 import inference_pb2 as pb


async def rerank(request: web.Request) -> web.StreamResponse:
    """POST /v1/rerank."""
    async with admitted(request) as intake:
        asked = rerank_request.read(
            intake.body, intake.default_model, intake.settings.strict, intake.of_path
        )
        able(intake.model(asked.model), pb.CAPABILITY_RERANK, "reranking")
        answer = await _rank(intake, asked)
        calling.used(intake, answer.usage)
        return json_response(
            rerank_response.json(
                answer,
                identifier=f"rerank-{chance.name()}",
                model=asked.model,
                documents=intake.body["documents"] if asked.return_documents else None,
            )
        )


async def _rank(intake: Intake, asked: RerankRequest) -> pb.RerankResponse:
    """One ranking, by as many workers as it is worth asking."""
    documents = rerank_request.texts(asked)

    async def ask(part: slice) -> tuple[int, pb.RerankResponse]:
        question = rerank_request.translate(asked, part, documents)
        names = rerank_request.names(part.start)
        return part.start, await calling.call(intake, "Rerank", question, pb.RerankResponse, names)

    most = splitting.worthwhile(len(documents), calling.workers(intake))
    parts = splitting.parts([len(each) for each in documents], most)
    return rerank_response.merge(await together(map(ask, parts)), asked.top_n)
