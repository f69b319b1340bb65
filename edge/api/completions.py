"""POST /v1/completions."""

from __future__ import annotations

import time
from collections.abc import Sequence

from aiohttp import web

from edge import answering, calling, chance
from edge.api.openai_stream import OpenAIStream
from edge.errors import Names
from edge.intake import Intake, admitted
from edge.openai import completion_rules, completion_to_proto
from edge.openai.completion_request import CompletionRequest
from edge.openai.completion_response import Chunks, Gathered, Header
from edge.reply import json_response
from edge.together import together
from protos.inference.v1 import inference_pb2 as pb


async def completions(request: web.Request) -> web.StreamResponse:
    """POST /v1/completions."""
    async with admitted(request) as intake:
        asked = completion_rules.read(
            intake.body, intake.default_model, intake.settings.strict, intake.of_path
        )
        model = intake.model(asked.model)
        wanted = completion_to_proto.translate(asked, chance.seed())
        completion_to_proto.check_model(asked, wanted, model)
        names = [completion_to_proto.names(at, len(wanted)) for at in range(len(wanted))]
        header = Header(
            id=f"cmpl-{chance.name()}",
            created=int(time.time()),
            model=asked.model,
            n=asked.n or 1,
            echo=await _echo(intake, asked, names),
            logprobs=asked.logprobs,
            of_prompt=wanted[0].output.prompt_logprobs,
        )
        async with answering.generations(intake, wanted, names) as generation:
            if asked.stream:
                options = asked.stream_options
                chunks = Chunks(header, include_usage=bool(options and options.include_usage))
                return await answering.streamed(intake, generation, OpenAIStream(chunks))
            gathered = Gathered(header)
            await answering.whole(intake, generation, gathered)
            return json_response(gathered.json())


async def _echo(
    intake: Intake, asked: CompletionRequest, names: Sequence[Names]
) -> tuple[str | None, ...]:
    """What is told of each prompt before its answer (see Header.echo). Raises ApiError."""
    prompts = completion_rules.prompts(asked)
    if not asked.echo:
        return ("",) * len(prompts)
    if asked.logprobs is not None:
        return tuple(prompt if isinstance(prompt, str) else None for prompt in prompts)

    async def text(prompt: str | Sequence[int], called: Names) -> str:
        if isinstance(prompt, str):
            return prompt
        question = pb.DetokenizeRequest(token_ids=prompt)
        answer = await calling.call(intake, "Detokenize", question, pb.DetokenizeResponse, called)
        return answer.text

    return tuple(await together(map(text, prompts, names)))
