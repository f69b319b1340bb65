"""Items as they are kept and told again: plain JSON in OpenAI's shape. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from pydantic import TypeAdapter

from edge.errors import invalid
from edge.openai import invalid as say
from edge.openai.messages import RefusalPart
from edge.responses import sealed
from edge.responses.ids import Ids
from edge.responses.item_models import (
    AssistantItem,
    FunctionCallItem,
    FunctionCallOutputItem,
    InputFile,
    InputImage,
    InputText,
    Item,
    ItemReference,
    OutputText,
    PlainItem,
    ReasoningItem,
    SystemItem,
    UserItem,
)

Json = dict[str, Any]

MAX_LIMIT: Final = 100
DEFAULT_LIMIT: Final = 20

_ITEMS: Final[TypeAdapter[list[Any]]] = TypeAdapter(list[Item])


def parse(kept: Sequence[Json]) -> list[PlainItem]:
    """Kept items as those of a request. Raises ValidationError: they were valid once."""
    return _ITEMS.validate_python(list(kept))


def references(asked: str | Sequence[Any] | None) -> list[str]:
    """Ids that the input refers to."""
    if asked is None or isinstance(asked, str):
        return []
    return [item.id for item in asked if isinstance(item, ItemReference)]


def plain(
    asked: str | Sequence[Any] | None,
    ids: Ids,
    found: dict[str, Json],
    before: Iterable[Json] = (),
) -> list[Json]:
    """The input as items with ids; `found` are those that it refers to. Raises ApiError 400.

    An id that is given twice, or is one of an item `before`, is another's the second time: who
    reads the items page by page goes on from ids.
    """
    if asked is None:
        return []
    if isinstance(asked, str):
        asked = [UserItem.model_construct(role="user", content=asked)]
    taken = {item["id"] for item in before}
    out = []
    for place, item in enumerate(asked):
        made = found[item.id] if isinstance(item, ItemReference) else _plain(item, ids, place)
        if made["id"] in taken:
            made = {**made, "id": ids.input(made["type"], place)}
        taken.add(made["id"])
        out.append(made)
    return out


def _plain(item: PlainItem, ids: Ids, place: int) -> Json:
    match item:
        case SystemItem() | UserItem():
            made = _message(item, [_input_part(part) for part in _parts(item.content)])
        case AssistantItem():
            made = _message(item, [_output_part(part) for part in _parts(item.content, OutputText)])
        case FunctionCallItem():
            made = {
                "type": "function_call",
                "call_id": item.call_id,
                "name": item.name,
                "arguments": item.arguments,
                "status": item.status or "completed",
            }
        case FunctionCallOutputItem():
            output = item.output
            made = {
                "type": "function_call_output",
                "call_id": item.call_id,
                "output": output
                if isinstance(output, str)
                else [_input_part(part) for part in output],
                "status": item.status or "completed",
            }
        case ReasoningItem():
            made = _reasoning(item, f"input[{place}]")
    return {"id": item.id or ids.input(made["type"], place), **made}


def _message(item: SystemItem | UserItem | AssistantItem, content: list[Json]) -> Json:
    return {
        "type": "message",
        "role": item.role,
        "status": item.status or "completed",
        "content": content,
    }


def _parts(content: str | Sequence[Any], text: type = InputText) -> Sequence[Any]:
    if isinstance(content, str):
        return [text(type="text", text=content)]
    return content


def _input_part(part: Any) -> Json:
    match part:
        case InputText():
            return {"type": "input_text", "text": part.text}
        case InputImage():
            return {
                "type": "input_image",
                "detail": part.detail or "auto",
                "file_id": part.file_id,
                "image_url": part.image_url,
            }
        case InputFile():
            made: Json = part.model_dump(exclude_none=True)
            return made
    return {
        "type": "input_audio",
        "input_audio": {"data": part.input_audio.data, "format": part.input_audio.format},
    }


def _output_part(part: OutputText | RefusalPart) -> Json:
    if isinstance(part, RefusalPart):
        return {"type": "refusal", "refusal": part.refusal}
    return {"type": "output_text", "annotations": [], "logprobs": [], "text": part.text}


def _reasoning(item: ReasoningItem, param: str) -> Json:
    """Thoughts in the open: what came sealed is opened once, where it comes in."""
    content = [{"type": "reasoning_text", "text": part.text} for part in item.content or ()]
    if not content and item.encrypted_content:
        text = sealed.opened(item.encrypted_content)
        if text is None:
            raise invalid(
                f"The encrypted content of '{param}' could not be verified: it is not of this "
                "server.",
                f"{param}.encrypted_content",
                "invalid_encrypted_content",
            )
        content = [{"type": "reasoning_text", "text": text}]
    return {
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": part.text} for part in item.summary],
        "content": content,
        "status": item.status or "completed",
    }


def page(kept: Sequence[Json], limit: int, order: str, after: str | None) -> Json:
    """One page of items as GET …/input_items answers it. Raises ApiError 400."""
    listed = list(kept) if order == "asc" else list(reversed(kept))
    if after is not None:
        at = next((place for place, item in enumerate(listed) if item["id"] == after), None)
        if at is None:
            raise invalid(f"No item with id '{after[:128]}' found.", "after", "invalid_value")
        listed = listed[at + 1 :]
    data = listed[:limit]
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": len(listed) > limit,
    }


def read_page(query: dict[str, str]) -> tuple[int, str, str | None]:
    """Limit, order and `after` of a query. Raises ApiError 400."""
    limit = DEFAULT_LIMIT
    if "limit" in query:
        limit = whole_number("limit", query["limit"], 1, MAX_LIMIT)
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise say.bad_value("order", order, ("asc", "desc"))
    return limit, order, query.get("after")


def whole_number(param: str, text: str, least: int, most: int) -> int:
    """A number of a query. Raises ApiError 400."""
    if not (text.isascii() and text.isdecimal() and len(text) <= 10):
        raise say.wrong_type(param, "an integer", text)
    value = int(text)
    if not least <= value <= most:
        raise invalid(
            f"Invalid '{param}': expected a value from {least} to {most}, but got {value} instead.",
            param,
            "integer_above_max_value" if value > most else "integer_below_min_value",
        )
    return value
