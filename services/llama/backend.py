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
from services.llama import description, host, hub, requests, sizing
from services.llama.best_of import BestOf
from services.llama.config import LlamaSettings
from services.llama.engine import Engine, EngineLimits
from services.llama.job import Job
from services.llama.load import Metrics
from services.llama.prompt import Prompts, detokenize
from services.llama.runtime import gguf
from services.llama.runtime.llama import LlamaRuntime
from services.llama.runtime.loading import RuntimeOptions
from services.llama.stream import Ended
from services.llama.template import TemplateError, plain
from services.worker.backend import Backend, Call, StartupError
from services.worker.errors import ContextLengthExceeded, InvalidField, QueueFull, TemplateFailed

# A rendering ends itself before that (template.MAX_SECONDS); this is for what cannot.
_PROMPT_SECONDS = 10.0
_PROMPT_THREADS = 2
# How long `stop` waits for what these threads still do.
_STOP_SECONDS = 5.0
_LEAST_RETRY, _MOST_RETRY = 0.5, 30.0

# Ended sequences, beyond one for each that runs, whose cells may be kept for prompts to come.
_IDLE_SLOTS = 24
# Rows of a batch, decodes included, up to which drafts are worth evaluating: on CPUs a batch of
# more rows takes about as many times as long.
_DRAFTS = 16

T = TypeVar("T")

_log = structlog.get_logger()


class LlamaBackend(Backend):
    """One GGUF model."""

    def __init__(self, settings: LlamaSettings) -> None:
        self._settings = settings
        self._metrics = Metrics()
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
        self._runtime: LlamaRuntime
        self._engine: Engine | None = None

    async def start(self) -> None:
        """Loads and warms up. Raises StartupError."""
        self._lost = asyncio.get_running_loop().create_future()
        await self._in_thread(self._load)
        settings = self._settings
        limits = EngineLimits(
            self._context,
            parallel=settings.parallel,
            busy_prefill=settings.prefill_budget,
            prefill=settings.ubatch_size,
            drafts=_DRAFTS if settings.speculation else 0,
        )
        self._engine = Engine(self._runtime, limits, self._metrics, on_dead=self._on_dead)
        self._engine.start()

    def _load(self) -> None:
        settings = self._settings
        path = hub.locate(settings.model)
        header = gguf.read(path)
        options = RuntimeOptions(
            cells=sizing.choose_cells(
                header,
                settings.ctx_size,
                type_k=settings.cache_type_k,
                type_v=settings.cache_type_v,
                memory=host.available_memory(),
                gpu=settings.gpu_layers > 0,
            ),
            parallel=settings.parallel,
            idle=settings.parallel + _IDLE_SLOTS,
            outputs=_outputs(settings),
            batch_size=max(settings.batch_size, settings.parallel),
            ubatch_size=settings.ubatch_size,
            threads=settings.threads or host.usable_cores(),
            gpu_layers=settings.gpu_layers,
            cache_type_k=settings.cache_type_k,
            cache_type_v=settings.cache_type_v,
            mlock=settings.mlock,
            cpu_variant=settings.cpu_variant,
        )
        self._runtime = LlamaRuntime(header.parts[0], options)
        trained = sizing.trained_context(header)
        self._context = min(self._runtime.cells, trained or self._runtime.cells)
        self._vocabulary = self._runtime.vocabulary
        try:
            self._prompts = Prompts(
                self._vocabulary, header.metadata.get("tokenizer.chat_template"), self._context
            )
        except TemplateError as error:
            raise StartupError(f"{path}: {error}") from None
        self._model = description.describe(
            settings, path, header, vocabulary=self._vocabulary.size, context=self._context
        )

    async def stop(self) -> None:
        """Ends the engine and frees the model."""
        if self._engine is not None:
            await self._engine.stop()
            self._engine = None
        self._executor.shutdown(wait=False, cancel_futures=True)
        # A load that was cut short, too: only after it, it is known what there is to free.
        ended = await asyncio.to_thread(futures.wait, set(self._at_work), _STOP_SECONDS)
        if ended.not_done:
            # What it uses must not be freed under it; the process's end takes all.
            _log.warning("work that takes too long is left behind")
            self.abandoned = True
            return
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
        return self._metrics.collectors

    def model(self) -> pb.ModelInfo:
        """What is served."""
        return self._model

    def load(self) -> pb.LoadReport:
        """The load as of the engine's last step."""
        engine = self._running_engine()
        load = engine.load
        return pb.LoadReport(
            running=load.running,
            waiting=load.waiting,
            waiting_tokens=load.pending_tokens,
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
        return requests.job(request, prompt, self._model.default_sampling, call.deadline)

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
        interval = self._running_engine().load.drain_interval or 1.0
        retry_after = min(_MOST_RETRY, max(_LEAST_RETRY, interval))
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


def _outputs(settings: LlamaSettings) -> int:
    """Positions of one decode whose logits may be wanted: prompts' logprobs come in such pieces."""
    return min(settings.batch_size, max(64, settings.parallel + _DRAFTS))
