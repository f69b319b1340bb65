"""The llama worker behind the chassis: loads the model, turns calls into jobs for the engine."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager

import structlog
from prometheus_client.registry import Collector

from protos.inference.v1 import inference_pb2 as pb
from services.llama import answers, description, plan, requests, resident
from services.llama.arrival import Arrival
from services.llama.best_of import BestOf
from services.llama.config import LlamaSettings
from services.llama.embedder import EmbedMetrics
from services.llama.engine import Engine, EngineLimits
from services.llama.load import Metrics
from services.llama.marks import plain
from services.llama.media.reader import MediaMetrics, MediaReader
from services.llama.prompt import detokenize
from services.llama.residence import Residence
from services.llama.resident import Loaded, ModelChangedError, Resident, Source
from services.llama.runtime.embedding import EmbeddingModel
from services.llama.stream import Ended
from services.llama.threads import RESUME_SECONDS, Threads
from services.worker.backend import Backend, Call, StartupError
from services.worker.errors import (
    ContextLengthExceeded,
    InvalidField,
    Loading,
    QueueFull,
)

_LEAST_RETRY, _MOST_RETRY = 0.5, 30.0
# When a caller may try again whose load failed.
_LOAD_RETRY_SECONDS = 5.0

_log = structlog.get_logger()


class LlamaBackend(Backend):
    """One GGUF model."""

    def __init__(self, settings: LlamaSettings) -> None:
        self._settings = settings
        self._metrics = Metrics()
        self._embed_metrics = EmbedMetrics()
        self._media_metrics = MediaMetrics()
        self._threads = Threads()
        # Whether `stop` left a thread behind that Python would wait for at its end.
        self.abandoned = False
        self._lost: asyncio.Future[str] | None = None
        # Calls that use the model, from their arrival to their end: bounds the queue, that for the
        # prompt threads included.
        self._live = 0
        # Found once, so that what is loaded again is the same.
        self._source: Source | None = None
        self._model: pb.ModelInfo | None = None
        # As the load report tells it, in memory or not.
        self._cells = 0
        # A new value tells that what the KV cache held is gone.
        self._incarnation = uuid.uuid4().hex
        self._residence = Residence(
            self._bring, self._give_back, settings.idle_unload, busy=lambda: self._threads.busy
        )

    async def start(self) -> None:
        """Loads and warms up. Raises StartupError."""
        self._lost = asyncio.get_running_loop().create_future()
        self._source = source = await self._threads.load(lambda: resident.find(self._settings))
        # From here on with what was chosen.
        self._settings = source.settings
        async with self._residence.use() as there:
            loaded = there.loaded
            if not isinstance(loaded.runtime, EmbeddingModel):
                self._cells = loaded.runtime.cells
            self._model = description.describe(
                source.settings,
                source.path,
                source.plan.header,
                vocabulary=loaded.runtime.vocabulary.size,
                context=loaded.context,
            )
            description.add_infill(self._model, loaded.prompts.infill)
            description.add_embedding(self._model, source.kind, loaded.embedding.dimensions)
            description.add_media(self._model, loaded.projector)
            if loaded.constraints is not None and loaded.constraints.available:
                self._model.capabilities.append(pb.CAPABILITY_CONSTRAINT)

    async def _bring(self) -> Resident:
        """Raises StartupError, and Loading in its place once the worker serves."""
        source = self._source
        assert source is not None
        again = self._model is not None

        def work() -> Loaded:
            if again:
                resident.check_again(source)
            return resident.load(source)

        began = time.monotonic()
        try:
            loaded = await self._threads.load(work)
        except Exception as error:
            if not again:
                raise
            expected = isinstance(error, StartupError)
            _log.error("reload failed", why=str(error), exc_info=None if expected else error)
            if isinstance(error, ModelChangedError):
                self._lose(str(error))
            message = "the model cannot be loaded at the moment"
            raise Loading(message, retry_after=_LOAD_RETRY_SECONDS) from error
        self._metrics.load_seconds.observe(time.monotonic() - began)
        self._metrics.loaded.set(1)
        try:
            return self._put_to_work(loaded)
        except BaseException:
            loaded.close()
            raise

    def _put_to_work(self, loaded: Loaded) -> Resident:
        embedding = loaded.embedding.service(
            self._threads.prompt, places=self._places, metrics=self._embed_metrics
        )
        media = MediaReader(
            loaded.projector,
            limit=self._settings.media_cache * 2**20,
            holders=self._settings.parallel,
            run=self._threads.encode,
            metrics=self._media_metrics,
        )
        if isinstance(loaded.runtime, EmbeddingModel):
            return Resident(loaded, None, embedding, media)
        assert self._source is not None
        settings, planned = self._settings, self._source.plan
        limits = EngineLimits(
            loaded.context,
            parallel=settings.parallel,
            busy_prefill=settings.prefill_budget,
            prefill=settings.ubatch_size,
            drafts=plan.DRAFTS if settings.speculation else 0,
            kept=planned.kept,
            parked=planned.parked,
        )
        drafter = loaded.draft.drafter() if loaded.draft is not None else None
        engine = Engine(loaded.runtime, limits, self._metrics, self._on_dead, drafter)
        engine.start()
        return Resident(loaded, engine, embedding, media)

    async def _give_back(self, there: Resident) -> None:
        # Nobody gets it any more: what its cache held is gone, though it takes its time to go.
        self._incarnation = uuid.uuid4().hex
        await there.stop()
        await asyncio.to_thread(there.loaded.close)
        self._metrics.unloaded()
        _log.info("model unloaded")

    async def stop(self) -> None:
        """Ends the engine and frees the model."""
        if self._residence.resident is not None:
            await self._residence.resident.stop()
        # A load that was cut short, too: only after it, it is known what there is to free.
        if not await self._threads.stop():
            # What it uses must not be freed under it; the process's end takes all.
            _log.warning("work that takes too long is left behind")
            self.abandoned = True
            return
        await self._residence.close()

    async def lost(self) -> str:
        """Waits for the engine to give the runtime up."""
        assert self._lost is not None
        return await self._lost

    def _on_dead(self) -> None:
        self._lose("the engine failed repeatedly")

    def _lose(self, why: str) -> None:
        assert self._lost is not None
        if not self._lost.done():
            self._lost.set_result(why)

    def collectors(self) -> Sequence[Collector]:
        """The engine's metrics."""
        metrics = (self._metrics, self._embed_metrics, self._media_metrics)
        return [collector for some in metrics for collector in some.collectors]

    def model(self) -> pb.ModelInfo:
        """What is served, in memory or not."""
        assert self._model is not None
        return self._model

    def load(self) -> pb.LoadReport:
        """The load as of the engine's last step; while the model is not there, who waits for it."""
        report = pb.LoadReport(
            incarnation=self._incarnation,
            kv_cells_total=self._cells,
            max_running=self._settings.parallel,
            max_waiting=self._settings.max_waiting,
        )
        there = self._residence.resident
        if there is None:
            report.waiting = self._residence.waiting
            return report
        embedding = there.embedding.load()
        if there.engine is None:
            report.MergeFrom(embedding)
            return report
        load = there.engine.load
        report.running = load.running
        report.waiting = load.waiting + there.media.waiting
        # What is embedded wants the same cores.
        report.waiting_tokens = load.pending_tokens + embedding.waiting_tokens
        report.kv_cells_used = load.cells_used
        report.prefill_tokens_per_second = load.prefill_rate
        report.decode_tokens_per_second = load.decode_rate
        return report

    async def generate(
        self, request: pb.GenerateRequest, call: Call
    ) -> AsyncGenerator[pb.GenerateResponse, None]:
        """Yields started, deltas, finished."""
        async with self._place() as there:
            arrival = await self._arrival(there, request, call)
            job = arrival.job
            if job.layout:
                # Encoding takes seconds, and nothing can be the caller's mistake from here on.
                yield requests.started(self.model().identity, job)
            async with (
                there.media.encoded(job, request.chat) as ready,
                aclosing(self._events(there, request, arrival.become(ready))) as events,
            ):
                async for event in events:
                    yield event

    async def _arrival(self, there: Resident, request: pb.GenerateRequest, call: Call) -> Arrival:
        defaults = self.model().default_sampling

        def work() -> Arrival:
            prompt, layout = there.media.placed(there.prompts.made(request), request)
            if not prompt.tokens:
                raise InvalidField("input", "the prompt has no tokens")
            if len(prompt.tokens) >= there.context:
                raise ContextLengthExceeded(len(prompt.tokens), there.context)
            grammar, reading, ends = answers.expected(
                request, prompt, there.loaded.constraints, there.vocabulary
            )
            job = requests.job(
                request,
                prompt.tokens,
                defaults,
                call.deadline,
                grammar=grammar,
                reading=reading,
                ends=ends,
                layout=layout,
            )
            return there.generator.arriving(job)

        resumes = request.HasField("resume")
        return await self._threads.prompt(work, RESUME_SECONDS if resumes else None)

    async def _events(
        self, there: Resident, request: pb.GenerateRequest, arrival: Arrival
    ) -> AsyncGenerator[pb.GenerateResponse, None]:
        engine, job = there.generator, arrival.job
        streams = engine.submit(arrival)
        streams.interval = request.output.min_delta_interval.ToNanoseconds() / 1e9
        ended: dict[int, tuple[int, Ended]] = {}
        wanted = requests.choices(request)
        best = BestOf(wanted) if len(job.choices) > wanted else None
        try:
            if not job.layout:
                # Said while it waits, too.
                yield requests.started(self.model().identity, job)
            while len(ended) < len(job.choices):
                choice, gained = await streams.next()
                if gained.ended is not None:
                    ended[choice] = (gained.completion_tokens, gained.ended)
                if best is not None:
                    best.add(choice, gained)
                else:
                    yield requests.delta(choice, gained, there.vocabulary)
            for choice, gained in best.chosen(request.output.logprobs) if best is not None else ():
                yield requests.delta(choice, gained, there.vocabulary)
            yield requests.finished(request, job, ended)
        finally:
            engine.cancel(streams)

    async def embed(self, request: pb.EmbedRequest, call: Call) -> pb.EmbedResponse:
        """See the contract."""
        async with self._in_memory() as there:
            return await there.embedding.embed(request, call)

    async def rerank(self, request: pb.RerankRequest, call: Call) -> pb.RerankResponse:
        """See the contract."""
        async with self._in_memory() as there:
            return await there.embedding.rerank(request, call)

    async def tokenize(self, request: pb.TokenizeRequest, call: Call) -> pb.TokenizeResponse:
        """See the contract."""
        del call
        async with self._place() as there:

            def work() -> pb.TokenizeResponse:
                answer = pb.TokenizeResponse(token_ids=there.prompts.tokenize(request.text))
                if request.with_pieces:
                    answer.pieces.extend(
                        there.vocabulary.piece(token, special=True) for token in answer.token_ids
                    )
                return answer

            return await self._threads.prompt(work)

    async def detokenize(self, request: pb.DetokenizeRequest, call: Call) -> pb.DetokenizeResponse:
        """See the contract."""
        del call
        async with self._place() as there:
            text = await self._threads.prompt(
                lambda: detokenize(
                    there.vocabulary, request.token_ids, skip_special=request.skip_special_tokens
                )
            )
        return pb.DetokenizeResponse(text=text)

    async def render_prompt(
        self, request: pb.RenderPromptRequest, call: Call
    ) -> pb.RenderPromptResponse:
        """See the contract."""
        del call
        async with self._place() as there:
            rendered = await self._threads.prompt(lambda: there.prompts.render(request.chat))
            tokens = []
            if request.with_token_ids:
                tokens = await self._threads.prompt(
                    lambda: there.prompts.encode_if_hopeful(rendered)
                )
        return pb.RenderPromptResponse(prompt=plain(rendered), token_ids=tokens)

    @property
    def _places(self) -> int:
        return self._settings.parallel + self._settings.max_waiting

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[Resident]:
        """Encloses a call that takes prompt threads or the engine. Raises QueueFull, Loading."""
        self._refuse_beyond(self._live)
        self._live += 1
        try:
            async with self._in_memory() as there:
                yield there
        finally:
            self._live -= 1

    @asynccontextmanager
    async def _in_memory(self) -> AsyncIterator[Resident]:
        """Encloses a call that uses the model. Raises QueueFull, Loading."""
        self._refuse_beyond(self._residence.waiting)
        async with self._residence.use() as there:
            yield there

    def _refuse_beyond(self, calls: int) -> None:
        if calls < self._places:
            return
        there = self._residence.resident
        interval = there.engine.load.drain_interval if there and there.engine else 0.0
        retry_after = min(_MOST_RETRY, max(_LEAST_RETRY, interval or 1.0))
        raise QueueFull("the waiting queue is full", retry_after=retry_after)
