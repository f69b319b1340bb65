"""What a request goes on from: stored responses, items by reference, and its own; as one chat."""

from __future__ import annotations

from dataclasses import dataclass

from edge import calling, chance, fetching
from edge.errors import ApiError
from edge.intake import Intake
from edge.openai import chat_to_proto, images
from edge.responses import conversation, ids, items, rules, to_chat, truncation
from edge.responses.ids import Ids
from edge.responses.item_models import PlainItem
from edge.responses.keeping import Keeping, told
from edge.responses.records import Json
from edge.responses.request import CountRequest, ResponseRequest
from protos.inference.v1 import inference_pb2 as pb

# Each time at least one item goes, and mostly as many as must.
_ATTEMPTS = 16
_OVERFLOW = "context_length_exceeded"


@dataclass(slots=True)
class Turn:
    """One request with all that it stands on."""

    ids: Ids
    # The request's own items, as they are kept.
    own: list[Json]
    # All of them, and how many of these are not the request's.
    items: list[PlainItem]
    before: int
    # Ids of the responses that it goes on from.
    chain: list[str]
    # Whether the request's own items are a list that places can be named in.
    listed: bool
    # Of the chat's messages, and of the calls of each.
    places: list[int | None]
    calls: list[list[int]]

    def place(self, message: int, call: int | None = None) -> int | None:
        """Which of the request's own items a message of the chat is, or a call of it."""
        if not self.listed or message >= len(self.places):
            return None
        calls = self.calls[message]
        at = self.places[message]
        # A call that is not there is the worker's mistake.
        if call is not None and call < len(calls):
            at = calls[call]
        return None if at is None or at < self.before else at - self.before


async def read(keeping: Keeping, owner: str, asked: ResponseRequest | CountRequest) -> Turn:
    """The turn of a request. Raises ApiError 400, 404, 503."""
    made = ids.new()
    previous = asked.previous_response_id
    records = await keeping.chain(owner, previous) if previous else []
    found = await _found(keeping, owner, items.references(asked.input))
    before = told(records)
    own = items.plain(asked.input, made, found, before)
    everything = [*items.parse(before), *items.parse(own)]
    conversation.check_calls(everything)
    return Turn(
        ids=made,
        own=own,
        items=everything,
        before=len(before),
        chain=[record.id for record in records],
        listed=isinstance(asked.input, list),
        places=[],
        calls=[],
    )


async def _found(keeping: Keeping, owner: str, wanted: list[str]) -> dict[str, Json]:
    """Items by their ids. Raises ApiError 404, 503."""
    found: dict[str, Json] = {}
    for id_ in wanted:
        if id_ in found:
            continue
        response = ids.response_of(id_)
        if response is None:
            raise ids.no_item(id_)
        try:
            record = await keeping.get(owner, response)
        except ApiError as error:
            raise (ids.no_item(id_) if error.status == 404 else error) from None
        found.update((item["id"], item) for item in (*record.items, *record.body["output"]))
        if id_ not in found:
            raise ids.no_item(id_)
    return found


async def wanted(
    intake: Intake, turn: Turn, asked: ResponseRequest | CountRequest, model: pb.ModelInfo
) -> pb.GenerateRequest:
    """The generation of a turn. Raises ApiError 400."""
    chat = conversation.conversation(turn.items, asked.instructions)
    turn.places, turn.calls = chat.places, chat.calls
    request = to_chat.chat(asked, chat.messages)
    hosts = fetching.Hosts(intake.settings.media_hosts)
    await fetching.put_in(images.addressed(request), hosts, images.not_had)
    made = chat_to_proto.translate(request, chance.seed(), model.capabilities)
    chat_to_proto.check_model(made, model)
    return made


async def fitted(
    intake: Intake, turn: Turn, asked: ResponseRequest | CountRequest, model: pb.ModelInfo
) -> pb.GenerateRequest:
    """As `wanted`; with `truncation: auto` without as many of the oldest items as must go.

    Raises ApiError.
    """
    made = await wanted(intake, turn, asked, model)
    if asked.truncation != "auto" or not model.context_length:
        return made
    most = asked.max_output_tokens if isinstance(asked, ResponseRequest) else None
    limit = truncation.room(model.context_length, most)
    for _ in range(_ATTEMPTS):
        try:
            tokens = await count(intake, turn, made)
        except ApiError as error:
            if error.code != _OVERFLOW:
                raise
            # Too long even to be counted.
            tokens = 2 * limit
        if tokens <= limit:
            break
        rest = truncation.shorter(turn.items, tokens, limit)
        if rest is None:
            # Whether it fits without any room is the worker's to say.
            break
        gone = len(turn.items) - len(rest)
        turn.before, turn.listed = max(0, turn.before - gone), False
        turn.items = rest
        made = await wanted(intake, turn, asked, model)
    return made


async def count(intake: Intake, turn: Turn, made: pb.GenerateRequest) -> int:
    """Tokens of a turn's prompt. Raises ApiError."""
    question = pb.RenderPromptRequest(chat=made.chat, with_token_ids=True)
    answer = await calling.call(
        intake, "RenderPrompt", question, pb.RenderPromptResponse, rules.names(turn.place)
    )
    return len(answer.token_ids)
