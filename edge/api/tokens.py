"""POST /v1/tokenize, /v1/detokenize and /v1/apply-template."""

from __future__ import annotations

from aiohttp import web

from edge import calling
from edge.intake import Intake, admitted, default_or_only
from edge.openai import chat_rules, chat_to_proto, token_request, token_response
from edge.openai.chat_request import ChatRequest
from edge.openai.checks import able
from edge.openai.token_request import Texted
from edge.reply import json_response
from edge.together import together
from protos.inference.v1 import inference_pb2 as pb

# Texts of one request that are tokenized at once: others want the same threads.
_AT_ONCE = 4


async def tokenize(request: web.Request) -> web.StreamResponse:
    """POST /v1/tokenize: a text, several texts, or a conversation."""
    async with admitted(request) as intake:
        asked = token_request.read_tokenize(
            intake.body, default_or_only(intake.edge), intake.settings.strict, intake.of_path
        )
        if isinstance(asked, ChatRequest):
            model = intake.model(asked.model)
            answer = await _render(intake, asked, model, with_token_ids=True)
            return json_response(token_response.of_chat(answer, model.context_length))
        model = intake.model(asked.request.model)
        able(model, pb.CAPABILITY_TOKENIZE, "tokenization")
        wanted = asked.request
        return json_response(
            token_response.tokenized(
                await _tokenize(intake, asked),
                several=asked.several,
                max_length=wanted.max_length,
                with_pieces=bool(wanted.with_pieces),
                strings=bool(wanted.return_token_strs),
                context_length=model.context_length,
            )
        )


async def detokenize(request: web.Request) -> web.StreamResponse:
    """POST /v1/detokenize."""
    async with admitted(request) as intake:
        asked = token_request.read_detokenize(
            intake.body, default_or_only(intake.edge), intake.settings.strict, intake.of_path
        )
        able(intake.model(asked.model), pb.CAPABILITY_TOKENIZE, "tokenization")
        question = pb.DetokenizeRequest(
            token_ids=asked.tokens, skip_special_tokens=bool(asked.skip_special_tokens)
        )
        answer = await calling.call(
            intake, "Detokenize", question, pb.DetokenizeResponse, token_request.DETOKENIZE
        )
        return json_response(token_response.detokenized(answer))


async def apply_template(request: web.Request) -> web.StreamResponse:
    """POST /v1/apply-template: what the model would read of a conversation."""
    async with admitted(request) as intake:
        chat = chat_rules.read(
            intake.body, default_or_only(intake.edge), intake.settings.strict, intake.of_path
        )
        model = intake.model(chat.model)
        answer = await _render(intake, chat, model)
        return json_response({"prompt": answer.prompt})


async def _tokenize(intake: Intake, asked: Texted) -> list[pb.TokenizeResponse]:
    async def ask(at: int) -> pb.TokenizeResponse:
        question, names = token_request.to_tokenize(asked, at), token_request.names(asked, at)
        return await calling.call(intake, "Tokenize", question, pb.TokenizeResponse, names)

    answers: list[pb.TokenizeResponse] = []
    every = range(len(asked.texts))
    for begin in every[::_AT_ONCE]:
        answers += await together(map(ask, every[begin : begin + _AT_ONCE]))
    return answers


async def _render(
    intake: Intake, chat: ChatRequest, model: pb.ModelInfo, *, with_token_ids: bool = False
) -> pb.RenderPromptResponse:
    # The seed is for what is generated, which is nothing.
    wanted = chat_to_proto.translate(chat, 0, model.capabilities)
    chat_to_proto.check_model(wanted, model)
    question = pb.RenderPromptRequest(chat=wanted.chat, with_token_ids=with_token_ids)
    return await calling.call(
        intake, "RenderPrompt", question, pb.RenderPromptResponse, token_request.CHAT
    )
