"""Whether a request keeps to the contract: presence, ranges and shapes of every field; pure.

Raises InvalidField with the path of the first field that does not. It runs on the event loop, so
everything is counted before it is looked at. What needs the model itself
(does the prompt fit, does the template take it) is the backend's to say.
"""

from __future__ import annotations

from collections.abc import Sequence

from protos.inference.v1 import inference_pb2 as pb
from services.worker import checks
from services.worker.errors import ContextLengthExceeded, InvalidField
from services.worker.validation_chat import chat_input

_MAX_CHOICES = 128
_MAX_SCHEMA_LEVELS = 16


def generate(request: pb.GenerateRequest, model: pb.ModelInfo) -> None:
    """Raises InvalidField."""
    match request.WhichOneof("input"):
        case "chat":
            chat_input("chat", request.chat)
        case "text":
            _text_prompt(request.text)
        case "tokens":
            _tokens("tokens.ids", request.tokens.ids, model, free=1)
        case None:
            raise InvalidField("input", "one of chat, text and tokens is required")
    _sampling(request.sampling, model)
    _stop(request.stop, model)
    _output(request.output)
    if request.HasField("constraint"):
        _constraint(request.constraint)
    _choices(request)
    _scheduling(request.tenant, request.priority)
    checks.size("cache_namespace", request.cache_namespace, 128)
    # A worker without adapters says UNSUPPORTED instead.
    adapters = pb.CAPABILITY_ADAPTERS in model.capabilities
    if request.adapter and adapters and request.adapter not in model.adapters:
        raise InvalidField("adapter", "is no adapter of this model")
    _speculation(request.speculation)
    if request.HasField("resume"):
        _resume(request, model)


def embed(request: pb.EmbedRequest, model: pb.ModelInfo) -> None:
    """Raises InvalidField."""
    checks.count("inputs", request.inputs, 1, 2048)
    checks.total("inputs", sum(len(item.tokens.ids) for item in request.inputs))
    for at, item in enumerate(request.inputs):
        match item.WhichOneof("input"):
            case "text":
                checks.required(f"inputs[{at}].text", item.text)
            case "tokens":
                _tokens(f"inputs[{at}].tokens.ids", item.tokens.ids, model, cut=request.truncate)
            case None:
                raise InvalidField(f"inputs[{at}]", "one of text and tokens is required")
    if request.HasField("dimensions"):
        checks.within("dimensions", request.dimensions, 1, model.embedding_dimensions)
    _scheduling(request.tenant, request.priority)


def rerank(request: pb.RerankRequest, model: pb.ModelInfo) -> None:
    """Raises InvalidField."""
    del model
    checks.required("query", request.query)
    checks.count("documents", request.documents, 1, 1024)
    for at, document in enumerate(request.documents):
        checks.required(f"documents[{at}]", document)
    if request.HasField("top_n"):
        checks.at_least("top_n", request.top_n, 1)
    _scheduling(request.tenant, request.priority)


def tokenize(request: pb.TokenizeRequest, model: pb.ModelInfo) -> None:
    """Any text can be tokenized."""
    del request, model


def detokenize(request: pb.DetokenizeRequest, model: pb.ModelInfo) -> None:
    """Raises InvalidField."""
    checks.total("token_ids", len(request.token_ids))
    checks.token_ids("token_ids", request.token_ids, model.vocabulary_size)


def render_prompt(request: pb.RenderPromptRequest, model: pb.ModelInfo) -> None:
    """Raises InvalidField."""
    del model
    if not request.HasField("chat"):
        raise InvalidField("chat", "is required")
    chat_input("chat", request.chat)


def _text_prompt(text: pb.TextInput) -> None:
    without_bos = text.HasField("add_bos") and not text.add_bos
    fills = text.suffix or text.fill
    if not text.text and not fills and without_bos:
        raise InvalidField("text.text", "is empty, and so would be the prompt")
    if text.files and not fills:
        raise InvalidField("text.files", "needs text.suffix or text.fill")
    checks.count("text.files", text.files, 0, 256)
    for at, file in enumerate(text.files):
        checks.characters(f"text.files[{at}].name", file.name, 1024)


def _tokens(
    field: str, ids: Sequence[int], model: pb.ModelInfo, *, free: int = 0, cut: bool = False
) -> None:
    """`free`: tokens that the context must have left. `cut`: too many are no mistake."""
    if not ids:
        raise InvalidField(field, "must have at least 1 entry")
    # First, because looking at millions of ids would hold every other call up.
    context = model.context_length
    if context and not cut and len(ids) + free > context:
        raise ContextLengthExceeded(len(ids), context, field=field)
    checks.total(field, len(ids))
    checks.token_ids(field, ids, model.vocabulary_size)


def _sampling(sampling: pb.SamplingParams, model: pb.ModelInfo) -> None:
    for name, least, most in (
        ("temperature", 0, 2),
        ("top_p", 0, 1),
        ("min_p", 0, 1),
        ("typical_p", 0, 1),
        ("presence_penalty", -2, 2),
        ("frequency_penalty", -2, 2),
    ):
        checks.within(f"sampling.{name}", getattr(sampling, name), least, most)
    if sampling.HasField("repetition_penalty"):
        checks.above("sampling.repetition_penalty", sampling.repetition_penalty, 0)
    if len(sampling.logit_bias) > 1024:
        raise InvalidField("sampling.logit_bias", "must have at most 1024 entries")
    for token, bias in sampling.logit_bias.items():
        checks.token_id(f"sampling.logit_bias[{token}]", token, model.vocabulary_size)
        checks.within(f"sampling.logit_bias[{token}]", bias, -100, 100)
    dry = sampling.dry
    checks.at_least("sampling.dry.multiplier", dry.multiplier, 0)
    if dry.HasField("base"):
        checks.at_least("sampling.dry.base", dry.base, 1)
    checks.count("sampling.dry.sequence_breakers", dry.sequence_breakers, 0, 16)
    checks.within("sampling.xtc.probability", sampling.xtc.probability, 0, 1)
    checks.within("sampling.xtc.threshold", sampling.xtc.threshold, 0, 1)
    if sampling.HasField("mirostat"):
        mirostat = sampling.mirostat
        checks.within("sampling.mirostat.version", mirostat.version, 0, 2)
        if mirostat.HasField("tau"):
            checks.above("sampling.mirostat.tau", mirostat.tau, 0)
        if mirostat.HasField("eta"):
            checks.above("sampling.mirostat.eta", mirostat.eta, 0)


def _stop(stop: pb.StopConditions, model: pb.ModelInfo) -> None:
    checks.count("stop.strings", stop.strings, 0, 16)
    for at, string in enumerate(stop.strings):
        if not 1 <= len(string) <= 256:
            raise InvalidField(f"stop.strings[{at}]", "must have 1 to 256 characters")
    checks.count("stop.token_ids", stop.token_ids, 0, 64)
    checks.token_ids("stop.token_ids", stop.token_ids, model.vocabulary_size)


def _output(output: pb.OutputOptions) -> None:
    checks.within("output.top_logprobs", output.top_logprobs, 0, 20)
    interval = output.min_delta_interval
    checks.within("output.min_delta_interval", interval.seconds + interval.nanos / 1e9, 0, 5)
    if output.top_logprobs and not output.logprobs:
        raise InvalidField("output.top_logprobs", "needs output.logprobs")


def _constraint(constraint: pb.Constraint) -> None:
    match constraint.WhichOneof("kind"):
        case "json_object":
            if not constraint.json_object:
                raise InvalidField("constraint.json_object", "must be true")
        case "json_schema":
            field, text = "constraint.json_schema", constraint.json_schema
            checks.size(field, text, checks.KIB_64)
            schema = checks.json_text(field, text, (dict, bool), "a JSON schema")
            checks.levels(field, schema, _MAX_SCHEMA_LEVELS)
        case "choice":
            checks.count("constraint.choice.values", constraint.choice.values, 1, 1024)
            for at, value in enumerate(constraint.choice.values):
                checks.required(f"constraint.choice.values[{at}]", value)
                checks.size(f"constraint.choice.values[{at}]", value, 4096)
        case "regex" | "gbnf" | "lark" as kind:
            checks.required(f"constraint.{kind}", getattr(constraint, kind))
            checks.size(f"constraint.{kind}", getattr(constraint, kind), checks.KIB_64)
        case None:
            raise InvalidField("constraint", "one of its kinds is required")


def _choices(request: pb.GenerateRequest) -> None:
    if request.HasField("n"):
        checks.within("n", request.n, 1, _MAX_CHOICES)
    if request.HasField("best_of"):
        checks.within("best_of", request.best_of, request.n or 1, _MAX_CHOICES)


def _scheduling(tenant: str, priority: int) -> None:
    checks.size("tenant", tenant, 128)
    checks.within("priority", priority, -100, 100)


def _speculation(speculation: pb.Speculation) -> None:
    if speculation.HasField("max_draft_tokens"):
        checks.within("speculation.max_draft_tokens", speculation.max_draft_tokens, 1, 64)
    if speculation.HasField("max_ngram"):
        checks.within("speculation.max_ngram", speculation.max_ngram, 1, 16)


def _resume(request: pb.GenerateRequest, model: pb.ModelInfo) -> None:
    if not request.sampling.HasField("seed"):
        raise InvalidField("sampling.seed", "is required to resume")
    choices = max(request.n or 1, request.best_of)
    checks.count("resume.choices", request.resume.choices, 0, _MAX_CHOICES)
    total = sum(len(choice.token_ids) for choice in request.resume.choices)
    checks.total("resume.choices", total)
    seen: set[int] = set()
    for at, choice in enumerate(request.resume.choices):
        field = f"resume.choices[{at}]"
        if choice.index >= choices:
            raise InvalidField(f"{field}.index", "is no choice of this request")
        if choice.index in seen:
            raise InvalidField(f"{field}.index", "is named twice")
        seen.add(choice.index)
        checks.token_ids(f"{field}.token_ids", choice.token_ids, model.vocabulary_size)
