"""POST /v1/chat/completions."""

from __future__ import annotations

import time

from aiohttp import web

from edge import answering, chance, fetching
from edge.api.openai_stream import OpenAIStream
from edge.intake import admitted
from edge.openai import chat_rules, chat_to_proto, images
from edge.openai.chat_response import Chunks, Gathered, Header
from edge.reply import json_response


async def chat_completions(request: web.Request) -> web.StreamResponse:
    """POST /v1/chat/completions."""
    async with admitted(request) as intake:
        chat = chat_rules.read(
            intake.body, intake.default_model, intake.settings.strict, intake.of_path
        )
        model = intake.model(chat.model)
        hosts = fetching.Hosts(intake.settings.media_hosts)
        await fetching.put_in(images.addressed(chat), hosts, images.not_had)
        wanted = chat_to_proto.translate(chat, chance.seed(), model.capabilities)
        chat_to_proto.check_model(wanted, model)
        header = Header(
            id=f"chatcmpl-{chance.name()}",
            created=int(time.time()),
            model=chat.model,
            n=chat.n or 1,
            legacy=chat.functions is not None,
        )
        with answering.generation(intake, wanted) as generation:
            if chat.stream:
                options = chat.stream_options
                chunks = Chunks(header, include_usage=bool(options and options.include_usage))
                return await answering.streamed(intake, generation, OpenAIStream(chunks))
            gathered = Gathered(header, logprobs=bool(chat.logprobs))
            await answering.whole(intake, generation, gathered)
            return json_response(gathered.json())
