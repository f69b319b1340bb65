"""Requests of the contract to the engine's jobs, and its deltas back; pure."""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping, Sequence

from google.protobuf.duration_pb2 import Duration

from protos.inference.v1 import inference_pb2 as pb
from services.llama.interface import Grammar, Vocabulary
from services.llama.job import Job, OutputParams, Resumed, StopParams
from services.llama.lookup import SpeculationParams
from services.llama.media.layout import PLAIN, Layout
from services.llama.reading import Reading
from services.llama.sampling import Dry, Logprobs, Mirostat, SamplingParams, Xtc
from services.llama.stream import Delta, Ended, Finish, Timings

_FINISH = {
    Finish.STOP: pb.FINISH_REASON_STOP,
    Finish.LENGTH: pb.FINISH_REASON_LENGTH,
    Finish.TOOL_CALLS: pb.FINISH_REASON_TOOL_CALLS,
}


def job(
    request: pb.GenerateRequest,
    prompt: Sequence[int],
    defaults: pb.SamplingParams,
    deadline: float | None,
    *,
    grammar: Grammar | None = None,
    reading: Reading | None = None,
    ends: frozenset[int] = frozenset(),
    layout: Layout = PLAIN,
) -> Job:
    """What the engine is to do for a checked request; a missing seed is drawn here.

    `reading` is how a chat's answer is read; `ends` are tokens that end it beside the vocabulary's;
    `layout` tells where among the prompt's tokens images and sounds lie.
    """
    stop, output = request.stop, request.output
    ended = frozenset(choice.index for choice in request.resume.choices if choice.finished)
    skip = not output.HasField("skip_special_tokens") or output.skip_special_tokens
    return Job(
        prompt=prompt,
        choices=tuple(i for i in range(candidates(request)) if i not in ended),
        sampling=_sampling(request.sampling, defaults),
        stop=StopParams(
            max_tokens=stop.max_tokens if stop.HasField("max_tokens") else None,
            min_tokens=stop.min_tokens,
            strings=tuple(stop.strings),
            token_ids=frozenset(stop.token_ids) | (frozenset() if stop.ignore_eos else ends),
            ignore_eos=stop.ignore_eos,
            include_matched=stop.include_matched,
        ),
        output=OutputParams(
            token_ids=output.token_ids,
            # Of several candidates the likeliest are chosen.
            logprobs=output.logprobs or candidates(request) > choices(request),
            top_logprobs=output.top_logprobs,
            prompt_logprobs=output.prompt_logprobs,
            skip_special_tokens=skip,
        ),
        speculation=_speculation(request.speculation),
        grammar=grammar,
        reading=reading,
        resumed={
            choice.index: Resumed(tuple(choice.token_ids), choice.delivered_bytes)
            for choice in request.resume.choices
            if not choice.finished
        },
        tenant=request.tenant,
        priority=request.priority,
        namespace=request.cache_namespace,
        adapter=request.adapter,
        deadline=deadline,
        layout=layout,
    )


def choices(request: pb.GenerateRequest) -> int:
    """Choices to return."""
    return request.n if request.HasField("n") else 1


def candidates(request: pb.GenerateRequest) -> int:
    """Choices to generate."""
    return request.best_of if request.HasField("best_of") else choices(request)


def _speculation(request: pb.Speculation) -> SpeculationParams:
    base = SpeculationParams()
    return SpeculationParams(
        enabled=request.enabled if request.HasField("enabled") else base.enabled,
        max_draft_tokens=(
            request.max_draft_tokens
            if request.HasField("max_draft_tokens")
            else base.max_draft_tokens
        ),
        max_ngram=request.max_ngram if request.HasField("max_ngram") else base.max_ngram,
    )


def _sampling(request: pb.SamplingParams, defaults: pb.SamplingParams) -> SamplingParams:
    merged = pb.SamplingParams()
    merged.CopyFrom(defaults)
    merged.MergeFrom(request)
    # These are said as a whole, or not: a zero in them is no absence.
    for name in ("dry", "xtc", "mirostat"):
        if request.HasField(name):
            getattr(merged, name).CopyFrom(getattr(request, name))
    base = SamplingParams()
    return SamplingParams(
        temperature=merged.temperature if merged.HasField("temperature") else base.temperature,
        top_p=merged.top_p if merged.HasField("top_p") else base.top_p,
        top_k=merged.top_k,
        min_p=merged.min_p,
        typical_p=merged.typical_p if merged.HasField("typical_p") else base.typical_p,
        repetition_penalty=(
            merged.repetition_penalty
            if merged.HasField("repetition_penalty")
            else base.repetition_penalty
        ),
        presence_penalty=merged.presence_penalty,
        frequency_penalty=merged.frequency_penalty,
        penalty_window=merged.penalty_window,
        # 63 bits: callers in languages with signed integers can send it back.
        seed=request.seed if request.HasField("seed") else secrets.randbits(63),
        logit_bias=dict(merged.logit_bias),
        dry=_dry(merged.dry),
        xtc=_xtc(merged.xtc),
        mirostat=_mirostat(merged.mirostat) if merged.mirostat.version else None,
    )


def _dry(dry: pb.Dry) -> Dry | None:
    if dry.multiplier <= 0:
        return None
    base = Dry(dry.multiplier)
    return Dry(
        multiplier=dry.multiplier,
        base=dry.base if dry.HasField("base") else base.base,
        allowed_length=(
            dry.allowed_length if dry.HasField("allowed_length") else base.allowed_length
        ),
        window=dry.window,
        sequence_breakers=tuple(dry.sequence_breakers) or base.sequence_breakers,
    )


def _xtc(xtc: pb.Xtc) -> Xtc | None:
    if xtc.probability <= 0:
        return None
    base = Xtc(xtc.probability)
    return Xtc(xtc.probability, xtc.threshold if xtc.HasField("threshold") else base.threshold)


def _mirostat(mirostat: pb.Mirostat) -> Mirostat:
    base = Mirostat(mirostat.version)
    return Mirostat(
        mirostat.version,
        tau=mirostat.tau if mirostat.HasField("tau") else base.tau,
        eta=mirostat.eta if mirostat.HasField("eta") else base.eta,
    )


def started(identity: str, work: Job) -> pb.GenerateResponse:
    """The first event."""
    return pb.GenerateResponse(
        started=pb.Started(
            model_identity=identity, prompt_tokens=len(work.prompt), seed=work.sampling.seed
        )
    )


def delta(choice: int, gained: Delta, vocabulary: Vocabulary) -> pb.GenerateResponse:
    """What a choice gained."""
    message = pb.Delta(
        index=choice,
        text=gained.text,
        reasoning=gained.reasoning,
        tool_calls=[
            pb.ToolCallDelta(
                index=piece.index, id=piece.id, name=piece.name, arguments_json=piece.arguments
            )
            for piece in gained.calls
        ],
        token_ids=gained.token_ids,
        logprobs=[_logprob(entry, vocabulary) for entry in gained.logprobs],
        in_text=gained.owned,
        completion_tokens=gained.completion_tokens,
        delivered_bytes=gained.delivered_bytes,
    )
    if gained.prompt_logprobs:
        message.prompt_logprobs.extend(_logprob(e, vocabulary) for e in gained.prompt_logprobs)
    if gained.ended is not None:
        message.finish.reason = _FINISH[gained.ended.reason]
        message.finish.matched_stop = gained.ended.matched_stop
    return pb.GenerateResponse(delta=message)


def finished(
    request: pb.GenerateRequest, work: Job, ended: Mapping[int, tuple[int, Ended]]
) -> pb.GenerateResponse:
    """The last event. `ended`: of each choice generated here, its tokens and its end."""
    before = sum(len(c.token_ids) for c in request.resume.choices if c.finished)
    thought = work.reading.thought_before if work.reading is not None else 0
    ends = [end for _, end in ended.values()]
    usage = pb.Usage(
        prompt_tokens=len(work.prompt),
        completion_tokens=before + sum(tokens for tokens, _ in ended.values()),
        # The prompt is evaluated once: what the first choice did not find, it made for the others.
        cached_tokens=ended[min(ended)][1].usage.reused if ended else 0,
        reasoning_tokens=thought + sum(end.usage.reasoning for end in ends),
        draft_tokens=sum(end.usage.drafted for end in ends),
        accepted_draft_tokens=sum(end.usage.accepted for end in ends),
    )
    return pb.GenerateResponse(
        finished=pb.Finished(usage=usage, timings=_timings([end.timings for end in ends]))
    )


def _timings(choices: Sequence[Timings]) -> pb.Timings:
    """Of all choices together. One that generated nothing has waited for nothing."""
    known = [t for t in choices if t.first_token]
    if not known:
        return pb.Timings()
    admitted = min(t.admitted for t in known)
    first = min(t.first_token for t in known)
    return pb.Timings(
        queued=_duration(admitted - min(t.arrived for t in known)),
        prefill=_duration(first - admitted),
        decode=_duration(max(t.last_token for t in known) - first),
    )


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(round(max(0.0, seconds) * 1e9))
    return duration


def _logprob(entry: Logprobs, vocabulary: Vocabulary) -> pb.TokenLogprob:
    return pb.TokenLogprob(
        token_id=entry.token,
        token=vocabulary.piece(entry.token, special=True),
        # The first token of a prompt has none.
        logprob=None if math.isnan(entry.logprob) else entry.logprob,
        top=[
            pb.TokenLogprob(
                token_id=token, token=vocabulary.piece(token, special=True), logprob=value
            )
            for token, value in entry.top
        ],
    )
