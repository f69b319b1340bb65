"""POST /v1/messages and /v1/messages/count_tokens: Anthropic's API."""

from __future__ import annotations

from aiohttp import web

from edge import answering, calling, chance, fetching
from edge.anthropic import images, rules, to_proto
from edge.anthropic.answer import PING, Gathered, Header, Stream
from edge.anthropic.errors import NAMES
from edge.anthropic.request import (
    AdaptiveThinking,
    CountRequest,
    EnabledThinking,
    MessagesRequest,
    Thinking,
)
from edge.intake import Intake, admitted
from edge.reply import json_response
from protos.inference.v1 import inference_pb2 as pb


async def messages(request: web.Request) -> web.StreamResponse:
    """POST /v1/messages."""
    async with admitted(request) as intake:
        asked = rules.read(
            MessagesRequest, intake.body, intake.default_model, intake.settings.strict
        )
        model = intake.model(asked.model)
        await _fetch_images(intake, asked)
        wanted = to_proto.translate(asked, chance.seed(), model.capabilities)
        to_proto.check_model(wanted, model)
        header = Header(
            id=f"msg_{chance.name()}",
            model=asked.model,
            max_tokens=asked.max_tokens,
            show_thinking=_shows(asked.thinking),
            request_id=intake.ctx.request_id,
        )
        with answering.generation(intake, wanted, NAMES) as generation:
            if asked.stream:
                return await answering.streamed(intake, generation, Stream(header), PING)
            gathered = Gathered(header)
            await answering.whole(intake, generation, gathered)
            return json_response(gathered.json())


async def count_tokens(request: web.Request) -> web.Response:
    """POST /v1/messages/count_tokens."""
    async with admitted(request) as intake:
        asked = rules.read(CountRequest, intake.body, intake.default_model, intake.settings.strict)
        model = intake.model(asked.model)
        await _fetch_images(intake, asked)
        chat = to_proto.chat(asked, model.capabilities)
        to_proto.check_model(pb.GenerateRequest(chat=chat), model)
        question = pb.RenderPromptRequest(chat=chat, with_token_ids=True)
        found = await calling.call(intake, "RenderPrompt", question, pb.RenderPromptResponse, NAMES)
        return json_response({"input_tokens": len(found.token_ids)})


async def _fetch_images(intake: Intake, asked: CountRequest) -> None:
    """Puts in what is at addresses of allowed hosts. Raises ApiError 400."""
    hosts = fetching.Hosts(intake.settings.media_hosts)
    await fetching.put_in(images.addressed(asked), hosts, images.not_had)


def _shows(thinking: Thinking | None) -> bool:
    if isinstance(thinking, EnabledThinking | AdaptiveThinking):
        return thinking.display != "omitted"
    return True
