"""The llama worker behind the chassis: loads the model, turns calls into jobs for the engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent import futures
from contextlib import aclosing, contextmanager
from typing import Any, TypeVar

import structlog
from prometheus_client.registry import Collector

from protos.inference.v1 import inference_pb2 as pb
from services.llama import description, embedding_setup, hub, plan, requests
from services.llama.best_of import BestOf
from services.llama.config import LlamaSettings
from services.llama.constrain import Constraints
from services.llama.embedder import EmbedMetrics
from services.llama.embedding import EmbeddingService
from services.llama.embedding_setup import EmbeddingSetup
from services.llama.engine import Engine, EngineLimits
from services.llama.job import Job
from services.llama.load import Metrics
from services.llama.prompt import Prompts, detokenize
from services.llama.runtime import gguf
from services.llama.runtime.embedding import EmbeddingModel
from services.llama.runtime.llama import LlamaRuntime
from services.llama.stream import Ended
from services.llama.template import CHATML, TemplateError, plain
from services.worker.backend import Backend, Call, StartupError
from services.worker.errors import ContextLengthExceeded, InvalidField, QueueFull, TemplateFailed

# A rendering ends itself before that (template.MAX_SECONDS); this is for what cannot.
_PROMPT_SECONDS = 10.0
_PROMPT_THREADS = 2
# How long `stop` waits for what these threads still do.
_STOP_SECONDS = 5.0
_LEAST_RETRY, _MOST_RETRY = 0.5, 30.0

T = TypeVar("T")

_log = structlog.get_logger()


class LlamaBackend(Backend):
    """One GGUF model."""

    def __init__(self, settings: LlamaSettings) -> None:
        self._settings = settings
        self._metrics = Metrics()
        self._embed_metrics = EmbedMetrics()
        # Templates and tokenizers take milliseconds and more: never on the event loop.
        self._executor = futures.ThreadPoolExecutor(_PROMPT_THREADS, thread_name_prefix="prompt")
        # What they have to do, and do even when nobody waits for it any more.
        self._at_work: set[futures.Future[Any]] = set()
        # Whether `stop` left a thread behind that Python would wait for at its end.
        self.abandoned = False
        # One that waits for a thread is not yet taking its own time.
        self._turns = asyncio.Semaphore(_PROMPT_THREADS)
        self._lost: asyncio.Future[str] | None = None
        # Calls that use the model, from their arrival to their end: bounds the queue, that for the
        # prompt threads included.
        self._live = 0
        self._runtime: LlamaRuntime | EmbeddingModel
        # None for a model that only embeds or ranks.
        self._engine: Engine | None = None
        self._embedding_setup: EmbeddingSetup | None = None
        self._embedding: EmbeddingService | None = None

    async def start(self) -> None:
        """Loads and warms up. Raises StartupError."""
        self._lost = asyncio.get_running_loop().create_future()
        await self._in_thread(self._load)
        assert self._embedding_setup is not None
        self._embedding = self._embedding_setup.service(
            self._prompt,
            places=self._settings.parallel + self._settings.max_waiting,
            metrics=self._embed_metrics,
        )
        if isinstance(self._runtime, EmbeddingModel):
            return
        settings = self._settings
        limits = EngineLimits(
            self._context,
            parallel=settings.parallel,
            busy_prefill=settings.prefill_budget,
            prefill=settings.ubatch_size,
            drafts=plan.DRAFTS if settings.speculation else 0,
        )
        self._engine = Engine(self._runtime, limits, self._metrics, on_dead=self._on_dead)
        self._engine.start()

    def _load(self) -> None:
        settings = self._settings
        path = hub.locate(settings.model)
        planned = plan.make(settings, gguf.read(path))
        header, options = planned.header, planned.options
        # From here on with what was chosen.
        self._settings = settings = settings.model_copy(update={"parallel": options.parallel})
        kind = embedding_setup.kind(path, header)
        loaded = LlamaRuntime if kind.generates else EmbeddingModel
        self._runtime = loaded(header.parts[0], options)
        self._context = planned.context(self._runtime.cells)
        self._vocabulary = self._runtime.vocabulary
        try:
            self._prompts = Prompts(
                self._vocabulary,
                header.metadata.get("tokenizer.chat_template") if kind.generates else CHATML,
                self._context,
            )
        except TemplateError as error:
            raise StartupError(f"{path}: {error}") from None
        self._model = description.describe(
            settings, path, header, vocabulary=self._vocabulary.size, context=self._context
        )
        self._embedding_setup = embedding_setup.prepare(
            self._runtime,
            header,
            options,
            kind,
            context=self._context,
            wanted=settings.embed_ctx_size,
        )
        description.add_embedding(self._model, kind, self._embedding_setup.dimensions)
        if kind.generates:
            self._constraints = Constraints(self._vocabulary)
            if self._constraints.available:
                self._model.capabilities.append(pb.CAPABILITY_CONSTRAINT)

    async def stop(self) -> None:
        """Ends the engine and frees the model."""
        if self._engine is not None:
            await self._engine.stop()
            self._engine = None
        if self._embedding is not None:
            await self._embedding.stop()
            self._embedding = None
        self._executor.shutdown(wait=False, cancel_futures=True)
        # A load that was cut short, too: only after it, it is known what there is to free.
        ended = await asyncio.to_thread(futures.wait, set(self._at_work), _STOP_SECONDS)
        if ended.not_done:
            # What it uses must not be freed under it; the process's end takes all.
            _log.warning("work that takes too long is left behind")
            self.abandoned = True
            return
        if self._embedding_setup is not None and self._embedding_setup.made is not None:
            self._embedding_setup.made.close()
        if hasattr(self, "_runtime"):
            self._runtime.close()

    async def lost(self) -> str:
        """Waits for the engine to give the runtime up."""
        assert self._lost is not None
        return await self._lost

    def _on_dead(self) -> None:
        assert self._lost is not None
        if not self._lost.done():
            self._lost.set_result("the engine failed repeatedly")

    def collectors(self) -> Sequence[Collector]:
        """The engine's metrics."""
        return (*self._metrics.collectors, *self._embed_metrics.collectors)

    def model(self) -> pb.ModelInfo:
        """What is served."""
        return self._model

    def load(self) -> pb.LoadReport:
        """The load as of the engine's last step."""
        assert self._embedding is not None
        if self._engine is None:
            report = self._embedding.load()
            report.max_running = self._settings.parallel
            report.max_waiting = self._settings.max_waiting
            return report
        load = self._engine.load
        return pb.LoadReport(
            running=load.running,
            waiting=load.waiting,
            # What is embedded wants the same cores.
            waiting_tokens=load.pending_tokens + self._embedding.load().waiting_tokens,
            kv_cells_used=load.cells_used,
            kv_cells_total=self._runtime.cells,
            prefill_tokens_per_second=load.prefill_rate,
            decode_tokens_per_second=load.decode_rate,
            max_running=self._settings.parallel,
            max_waiting=self._settings.max_waiting,
        )

    async def generate(
        self, request: pb.GenerateRequest, call: Call
    ) -> AsyncGenerator[pb.GenerateResponse, None]:
        """Yields started, deltas, finished."""
        with self._place():
            job = await self._job(request, call)
            async with aclosing(self._events(request, job)) as events:
                async for event in events:
                    yield event

    async def _job(self, request: pb.GenerateRequest, call: Call) -> Job:
        prompt = await self._prompt(lambda: self._prompts.tokens(request))
        if not prompt:
            raise InvalidField("input", "the prompt has no tokens")
        if len(prompt) >= self._context:
            raise ContextLengthExceeded(len(prompt), self._context)
        grammar = None
        if request.HasField("constraint"):
            grammar = await self._prompt(lambda: self._constraints.compile(request.constraint))
        return requests.job(request, prompt, self._model.default_sampling, call.deadline, grammar)

    async def _events(
        self, request: pb.GenerateRequest, job: Job
    ) -> AsyncGenerator[pb.GenerateResponse, None]:
        engine = self._running_engine()
        streams = engine.submit(job)
        ended: dict[int, tuple[int, Ended]] = {}
        best = (
            BestOf(requests.choices(request))
            if len(job.choices) > requests.choices(request)
            else None
        )
        try:
            # Said while it waits, too: nothing can be the caller's mistake from here on.
            yield requests.started(self._model.identity, job)
            while len(ended) < len(job.choices):
                choice, gained = await streams.next()
                if gained.ended is not None:
                    ended[choice] = (gained.completion_tokens, gained.ended)
                if best is not None:
                    best.add(choice, gained)
                else:
                    yield requests.delta(choice, gained, self._vocabulary)
            for choice, gained in best.chosen(request.output.logprobs) if best is not None else ():
                yield requests.delta(choice, gained, self._vocabulary)
            yield requests.finished(request, job, ended)
        finally:
            engine.cancel(streams)

    async def embed(self, request: pb.EmbedRequest, call: Call) -> pb.EmbedResponse:
        """See the contract."""
        assert self._embedding is not None
        return await self._embedding.embed(request, call)

    async def rerank(self, request: pb.RerankRequest, call: Call) -> pb.RerankResponse:
        """See the contract."""
        assert self._embedding is not None
        return await self._embedding.rerank(request, call)

    async def tokenize(self, request: pb.TokenizeRequest, call: Call) -> pb.TokenizeResponse:
        """See the contract."""
        del call

        def work() -> pb.TokenizeResponse:
            answer = pb.TokenizeResponse(token_ids=self._prompts.tokenize(request.text))
            if request.with_pieces:
                answer.pieces.extend(
                    self._vocabulary.piece(token, special=True) for token in answer.token_ids
                )
            return answer

        with self._place():
            return await self._prompt(work)

    async def detokenize(self, request: pb.DetokenizeRequest, call: Call) -> pb.DetokenizeResponse:
        """See the contract."""
        del call
        with self._place():
            text = await self._prompt(
                lambda: detokenize(
                    self._vocabulary, request.token_ids, skip_special=request.skip_special_tokens
                )
            )
        return pb.DetokenizeResponse(text=text)

    async def render_prompt(
        self, request: pb.RenderPromptRequest, call: Call
    ) -> pb.RenderPromptResponse:
        """See the contract."""
        del call
        with self._place():
            rendered = await self._prompt(lambda: self._prompts.render(request.chat))
            tokens = []
            if request.with_token_ids:
                tokens = await self._prompt(lambda: self._prompts.encode_if_hopeful(rendered))
        return pb.RenderPromptResponse(prompt=plain(rendered), token_ids=tokens)

    def _running_engine(self) -> Engine:
        assert self._engine is not None, "the chassis calls only between start and stop"
        return self._engine

    @contextmanager
    def _place(self) -> Iterator[None]:
        """Encloses a call that takes prompt threads or the engine. Raises QueueFull."""
        self._refuse_if_full()
        self._live += 1
        try:
            yield
        finally:
            self._live -= 1

    def _refuse_if_full(self) -> None:
        places = self._settings.parallel + self._settings.max_waiting
        if self._live < places:
            return
        interval = self._engine.load.drain_interval if self._engine is not None else 0.0
        retry_after = min(_MOST_RETRY, max(_LEAST_RETRY, interval or 1.0))
        raise QueueFull("the waiting queue is full", retry_after=retry_after)

    async def _prompt(self, work: Callable[[], T]) -> T:
        async with self._turns:
            try:
                return await asyncio.wait_for(self._in_thread(work), _PROMPT_SECONDS)
            except TimeoutError:
                raise TemplateFailed("making the prompt takes too long") from None

    async def _in_thread(self, work: Callable[[], T]) -> T:
        future = self._executor.submit(work)
        self._at_work.add(future)
        future.add_done_callback(self._at_work.discard)
        return await asyncio.wrap_future(future)
