"""Answers of /tokenize and /detokenize: what the clients of several servers read, in one. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from protos.inference.v1 import inference_pb2 as pb


def tokenized(
    answers: Sequence[pb.TokenizeResponse],
    *,
    several: bool,
    max_length: int | None,
    with_pieces: bool,
    strings: bool,
    context_length: int,
) -> dict[str, Any]:
    """The tokens of each text, of the only text where `several` is false; `count` is of all."""
    ids = [list(answer.token_ids[:max_length]) for answer in answers]
    pieces = [answer.pieces[:max_length] for answer in answers]
    tokens: list[Any] = ids
    if with_pieces:
        tokens = [
            [
                {"id": token, "piece": _piece(piece)}
                for token, piece in zip(each, texts, strict=True)
            ]
            for each, texts in zip(ids, pieces, strict=True)
        ]
    out: dict[str, Any] = {
        "tokens": tokens if several else tokens[0],
        "count": sum(map(len, ids)),
        "max_model_len": context_length,
    }
    if strings:
        texts = [[piece.decode(errors="replace") for piece in each] for each in pieces]
        out["token_strs"] = texts if several else texts[0]
    return out


def of_chat(answer: pb.RenderPromptResponse, context_length: int) -> dict[str, Any]:
    """The tokens of a conversation."""
    ids = list(answer.token_ids)
    return {"tokens": ids, "count": len(ids), "max_model_len": context_length}


def detokenized(answer: pb.DetokenizeResponse) -> dict[str, Any]:
    """The text, in vLLM's name and in that of llama.cpp's server."""
    return {"prompt": answer.text, "content": answer.text}


def _piece(piece: bytes) -> str | list[int]:
    """A part of a character is told as its bytes."""
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return list(piece)
