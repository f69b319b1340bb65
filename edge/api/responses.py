"""/v1/responses: made, streamed, made in the background, and what is kept of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import replace
from typing import Any

from aiohttp import web

from edge import answering, context, sse, stream
from edge.errors import ApiError, invalid
from edge.intake import Intake, admitted
from edge.openai import invalid as say
from edge.reply import json_response
from edge.responses import items, render, rules, turn
from edge.responses.events import Events, Whole, broken_off, retold
from edge.responses.keeping import BEAT, KEEPING, Keeping
from edge.responses.output import Output
from edge.responses.records import Json, Record
from edge.responses.request import ResponseRequest
from edge.responses.runs import Announced, Run
from edge.responses.turn import Turn
from edge.state import EDGE
from protos.inference.v1 import inference_pb2 as pb


async def create(request: web.Request) -> web.StreamResponse:
    """POST /v1/responses."""
    async with admitted(request) as intake:
        keeping, settings = request.app[KEEPING], intake.settings
        asked = rules.read(intake.body, intake.default_model, settings.strict, intake.of_path)
        model = intake.model(asked.model)
        owner = intake.ctx.identity.name
        its = await turn.read(keeping, owner, asked)
        with rules.in_our_words(its.place):
            wanted = await turn.fitted(intake, its, asked, model)
            making = _Making(intake, keeping, asked, its, model)
            if asked.background:
                return await making.detached(wanted)
            return await making.answered(wanted)


class _Making:
    """One response on its way."""

    def __init__(
        self,
        intake: Intake,
        keeping: Keeping,
        asked: ResponseRequest,
        its: Turn,
        model: pb.ModelInfo,
    ) -> None:
        self._intake = intake
        self._keeping = keeping
        self._asked = asked
        self._turn = its
        self._names = rules.names(its.place)
        self._created = int(keeping.clock())
        self._head = render.header(asked, its.ids.response, self._created, model.default_sampling)

    async def answered(self, wanted: pb.GenerateRequest) -> web.StreamResponse:
        """The response while the client waits."""
        intake = self._intake
        with answering.generation(intake, wanted, self._names) as generation:
            if self._asked.stream:
                events = Events(self._head, self._output(), self._keeping.clock)
                return await answering.streamed(
                    intake,
                    generation,
                    _Stream(events),
                    before_end=lambda: self._keep(events.response),
                )
            whole = Whole(self._head, self._output(), self._keeping.clock)
            source = Announced(generation, hurried=wanted.output.logprobs)
            await answering.whole(intake, source, whole)
            await self._keep(whole.response)
            return json_response(whole.response)

    async def detached(self, wanted: pb.GenerateRequest) -> web.StreamResponse:
        """The response on its own; the client may come back for it."""
        # The request's log line is written before it ends.
        intake = replace(self._intake, ctx=replace(self._intake.ctx))
        events = Events(self._head, self._output(), self._keeping.clock)
        id_ = self._turn.ids.response
        run = Run(
            events,
            self._keep_live,
            lambda response, log: self._keeping.end(id_, response, log),
            # Of deltas that are few it cannot be told which logprobs are the text's.
            hurried=bool(self._asked.stream) or wanted.output.logprobs,
        )
        run.start(
            intake,
            answering.generation(intake, wanted, self._names),
            intake.edge.admission.admit(),
        )
        self._keeping.track(run)
        await run.admitted()
        if self._asked.stream:
            return await _followed(intake.request, run.follow())
        return json_response({**self._head, "status": render.QUEUED})

    def _output(self) -> Output:
        seal = self._asked.includes("reasoning.encrypted_content")
        return Output(self._turn.ids, seal=seal)

    async def _keep(self, response: Json) -> None:
        if self._asked.stored:
            await self._keeping.add(self._record(response), self._turn.chain)

    async def _keep_live(self) -> None:
        """Raises ApiError 503: without the store nobody could come back for it."""
        if not await self._keeping.add(self._record(self._head), self._turn.chain):
            raise ApiError(
                503,
                "The response cannot be stored now. Please try again later.",
                kind="server_error",
                code="service_unavailable",
                retry_after=1.0,
            )

    def _record(self, response: Json) -> Record:
        return Record(
            id=response["id"],
            owner=self._intake.ctx.identity.name,
            previous=self._asked.previous_response_id,
            created=self._created,
            status=response["status"],
            background=bool(self._asked.background),
            body=response,
            items=self._turn.own,
            beat=self._keeping.clock(),
        )


class _Stream:
    """Events under their names."""

    def __init__(self, events: Events) -> None:
        self._events = events

    def started(self, started: pb.Started) -> Iterator[bytes]:
        del started
        return _named(self._events.begin())

    def delta(self, delta: pb.Delta) -> Iterator[bytes]:
        return _named(self._events.grow(delta))

    def finished(self, finished: pb.Finished) -> Iterator[bytes]:
        return _named(self._events.finish(finished))

    def failed(self, error: ApiError) -> Iterator[bytes]:
        return _named(self._events.fail(error))


def _named(events: Iterable[Json]) -> Iterator[bytes]:
    return (sse.named(event["type"], event) for event in events)


async def count(request: web.Request) -> web.Response:
    """POST /v1/responses/input_tokens."""
    async with admitted(request) as intake:
        asked = rules.read_count(
            intake.body, intake.default_model, intake.settings.strict, intake.of_path
        )
        model = intake.model(asked.model)
        its = await turn.read(request.app[KEEPING], intake.ctx.identity.name, asked)
        with rules.in_our_words(its.place):
            wanted = await turn.fitted(intake, its, asked, model)
            tokens = await turn.count(intake, its, wanted)
        return json_response({"object": "response.input_tokens", "input_tokens": tokens})


async def retrieve(request: web.Request) -> web.StreamResponse:
    """GET /v1/responses/{id}; with `stream` its events again, if it was made in the background."""
    keeping, query = request.app[KEEPING], request.query
    owner, id_ = _asked_for(request)
    again = _flag("stream", query.get("stream", "false"))
    start = 0
    if "starting_after" in query:
        start = 1 + items.whole_number("starting_after", query["starting_after"], 0, 2**31 - 1)
    record = await keeping.get(owner, id_)
    if not again or request.method == "HEAD":
        return json_response(record.body)
    if not record.background:
        raise invalid(
            "This response cannot be streamed again: it was not made with 'background'.", "stream"
        )
    run = keeping.runs.get(id_)
    if run is not None:
        return await _followed(request, run.follow(start))
    return await _followed(request, _kept_events(keeping, record, start))


async def delete(request: web.Request) -> web.Response:
    """DELETE /v1/responses/{id}."""
    owner, id_ = _asked_for(request)
    await request.app[KEEPING].delete(owner, id_)
    return json_response({"id": id_, "object": "response", "deleted": True})


async def cancel(request: web.Request) -> web.Response:
    """POST /v1/responses/{id}/cancel. What is over already is answered as it is."""
    keeping = request.app[KEEPING]
    record = await keeping.get(*_asked_for(request))
    if not record.background:
        raise invalid("Cannot cancel a synchronous response.")
    if record.status not in render.LIVE:
        return json_response(record.body)
    return json_response(await keeping.cancel(record))


async def input_items(request: web.Request) -> web.Response:
    """GET /v1/responses/{id}/input_items."""
    limit, order, after = items.read_page(dict(request.query))
    kept = await request.app[KEEPING].items(*_asked_for(request))
    return json_response(items.page(kept, limit, order, after))


def _asked_for(request: web.Request) -> tuple[str, str]:
    """Who asks, and for which response."""
    return request[context.KEY].identity.name, request.match_info["response_id"]


def _flag(param: str, text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise say.wrong_type(param, "a boolean", text)
    return text.lower() == "true"


async def _kept_events(keeping: Keeping, record: Record, start: int) -> AsyncIterator[bytes]:
    """The events of a response that ended, or that another process makes, once it has ended."""
    try:
        while record.status in render.LIVE:
            await asyncio.sleep(BEAT)
            record = await keeping.get(record.owner, record.id)
        kept = await keeping.events(record.owner, record.id)
    except ApiError as error:
        # It was deleted, or the store is gone; the head of the answer is out.
        yield sse.named("error", broken_off(error, start))
        return
    if kept is None:
        # They were too many, or another process than the one that made it said that it is over.
        for told in _named(retold(record.body, start)):
            yield told
        return
    for event in kept.split(b"\n\n")[start:]:
        if event:
            yield event + b"\n\n"


async def _followed(request: web.Request, events: AsyncIterator[bytes]) -> web.StreamResponse:
    """Events that do not depend on who reads them."""
    settings: Any = request.app[EDGE].settings
    out = stream.EventStream(
        request, heartbeat=settings.heartbeat_interval, write_timeout=settings.write_timeout
    )
    try:
        await out.open()
        async for event in events:
            await out.write(event)
        await out.close(())
    finally:
        await out.release()
    return out.response
