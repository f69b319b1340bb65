"""How busy the engine is: rates smoothed over seconds, the load report, Prometheus metrics."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.registry import Collector

from services.llama.scheduler import Work
from services.llama.stream import Timings

# Buckets of what takes from a decode to a long prefill.
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
# Rates are averages over about this many seconds of work.
_SMOOTHING = 5.0


class Metrics:
    """What the engine shows to Prometheus."""

    def __init__(self) -> None:
        self.running = Gauge("caravan_llama_running", "Sequences that hold a slot.", registry=None)
        self.waiting = Gauge(
            "caravan_llama_waiting",
            "Sequences that wait for a slot or for KV cells.",
            registry=None,
        )
        self.cells_used = Gauge(
            "caravan_llama_kv_cells_used", "KV cache cells in use.", registry=None
        )
        self.cells = Gauge("caravan_llama_kv_cells", "KV cache cells in all.", registry=None)
        self.step_seconds = Histogram(
            "caravan_llama_step_seconds",
            "Duration of one decode of the model.",
            buckets=SECONDS,
            registry=None,
        )
        self.batch_tokens = Histogram(
            "caravan_llama_batch_tokens",
            "Tokens of one decode of the model.",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096),
            registry=None,
        )
        self.prefill_tokens = Counter(
            "caravan_llama_prefill_tokens",
            "Tokens evaluated that were known before.",
            registry=None,
        )
        self.decode_tokens = Counter(
            "caravan_llama_decode_tokens", "Tokens generated.", registry=None
        )
        self.whole_step_seconds = Histogram(
            "caravan_llama_whole_step_seconds",
            "Duration of one step of the engine: planning, decoding, sampling and handing over.",
            buckets=SECONDS,
            registry=None,
        )
        self.time_to_first_token = Histogram(
            "caravan_llama_time_to_first_token_seconds",
            "From a request's arrival at the engine to its first token.",
            buckets=SECONDS,
            registry=None,
        )
        self.inter_token = Histogram(
            "caravan_llama_inter_token_seconds",
            "Between two tokens of a sequence; tokens of one step count as evenly spread.",
            buckets=SECONDS,
            registry=None,
        )
        self.prompt_tokens = Counter(
            "caravan_llama_prompt_tokens", "Tokens of prompts that were admitted.", registry=None
        )
        self.reused_tokens = Counter(
            "caravan_llama_reused_tokens",
            "Of these, tokens whose KV cells were there already.",
            registry=None,
        )
        self.drafted_tokens = Counter(
            "caravan_llama_drafted_tokens", "Tokens guessed by speculation.", registry=None
        )
        self.accepted_tokens = Counter(
            "caravan_llama_accepted_tokens", "Of these, tokens that came out.", registry=None
        )
        self.cells_idle = Gauge(
            "caravan_llama_kv_cells_idle",
            "KV cache cells kept for prompts to come, free to be evicted.",
            registry=None,
        )
        self.preemptions = Counter(
            "caravan_llama_preemptions",
            "Sequences that gave up their KV cells to others.",
            registry=None,
        )
        self.parked_bytes = Gauge(
            "caravan_llama_kv_parked_bytes",
            "Host memory that holds the KV states of ended sequences.",
            registry=None,
        )
        self.restored_tokens = Counter(
            "caravan_llama_restored_tokens",
            "Tokens whose KV cells were put back from host memory.",
            registry=None,
        )
        self.loaded = Gauge(
            "caravan_llama_loaded", "1 while the model is in memory, else 0.", registry=None
        )
        self.load_seconds = Histogram(
            "caravan_llama_load_seconds",
            "Duration of one load of the model, its warm-up included.",
            buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250),
            registry=None,
        )

    def unloaded(self) -> None:
        """The model is no longer in memory, and nothing that hung on it."""
        for gauge in (self.loaded, self.cells_used, self.cells_idle, self.parked_bytes):
            gauge.set(0)

    @property
    def collectors(self) -> Sequence[Collector]:
        """All of them, to be registered."""
        return tuple(vars(self).values())


@dataclass(frozen=True, slots=True)
class Load:
    """The engine's load at one moment. Rates in tokens per second, 0 where never measured."""

    running: int = 0
    waiting: int = 0
    # Tokens not yet evaluated, of waiting and running sequences.
    pending_tokens: int = 0
    cells_used: int = 0
    prefill_rate: float = 0.0
    decode_rate: float = 0.0
    # Seconds between two sequences that end. 0: not known.
    drain_interval: float = 0.0


class Progress(Protocol):
    """What of a sequence tells the load."""

    tokens: list[int]
    cached: int


class Evaluated(Protocol):
    """What of a sequence tells prefill from decode."""

    timings: Timings


@dataclass(frozen=True, slots=True)
class Cells:
    """KV cells in use: by sequences that run, and kept for prompts to come."""

    running: int
    idle: int
    # Bytes of states that are kept in the host's memory instead.
    parked: int = 0


class Meter:
    """Counts what the engine does. Used on the engine's thread."""

    def __init__(self, cells: int, metrics: Metrics) -> None:
        self._metrics = metrics
        self._prefill = _Rate()
        self._decode = _Rate()
        self._drain_interval = 0.0
        self._last_finish = 0.0
        self._metrics.cells.set(cells)

    def step(self, began: float, ended: float, work: Collection[tuple[Evaluated, Work]]) -> None:
        """A decode of the model took from `began` to `ended`, in seconds.

        To be called before the sequences look at their logits.
        """
        seconds = ended - began
        known = sum(item.count for _, item in work)
        # The last token of a prompt that is cached costs what a generated one does: as prefill it
        # would tell of a slow one.
        single = sum(item.count == 1 for _, item in work)
        if single:
            self._decode.add(single, seconds)
        if known > single:
            self._prefill.add(known - single, seconds)
        decoded = sum(item.count == 1 and s.timings.first_token > 0 for s, item in work)
        self._metrics.step_seconds.observe(seconds)
        self._metrics.batch_tokens.observe(known + sum(item.draft for _, item in work))
        self._metrics.prefill_tokens.inc(known - decoded)

    def whole_step(self, seconds: float) -> None:
        """A step with a decode, all that the engine did besides included."""
        self._metrics.whole_step_seconds.observe(seconds)

    def admitted(self, prompt: int, reused: int) -> None:
        """A prompt of so many tokens found the cells of so many of them."""
        self._metrics.prompt_tokens.inc(prompt)
        self._metrics.reused_tokens.inc(reused)

    def restored(self, tokens: int) -> None:
        """A state was put back from the host's memory."""
        self._metrics.restored_tokens.inc(tokens)

    def sampled(
        self, item: Work, tokens: int, accepted: int, seconds: float, *, first: bool
    ) -> None:
        """A sequence got so many tokens, so long after those before, the first after its arrival.

        `accepted`: how many of them were drafted.
        """
        self._metrics.decode_tokens.inc(tokens)
        if tokens and first:
            self._metrics.time_to_first_token.observe(seconds)
        elif tokens:
            for _ in range(tokens):
                self._metrics.inter_token.observe(seconds / tokens)
        if item.draft:
            self._metrics.drafted_tokens.inc(item.draft)
            self._metrics.accepted_tokens.inc(accepted)

    def finished(self, now: float) -> None:
        """A sequence ended by itself."""
        if self._last_finish:
            interval = now - self._last_finish
            known = self._drain_interval
            self._drain_interval = known + 0.2 * (interval - known) if known else interval
        self._last_finish = now

    def preempted(self) -> None:
        """A sequence gave up its cells."""
        self._metrics.preemptions.inc()

    def load(
        self, running: Collection[Progress], waiting: Collection[Progress], cells: Cells
    ) -> Load:
        """The load, which is also what the gauges show from now on."""
        self._metrics.running.set(len(running))
        self._metrics.waiting.set(len(waiting))
        self._metrics.cells_used.set(cells.running)
        self._metrics.cells_idle.set(cells.idle)
        self._metrics.parked_bytes.set(cells.parked)
        return Load(
            running=len(running),
            waiting=len(waiting),
            pending_tokens=sum(len(s.tokens) - s.cached for s in running)
            + sum(len(s.tokens) for s in waiting),
            cells_used=cells.running,
            prefill_rate=self._prefill.value,
            decode_rate=self._decode.value,
            drain_interval=self._drain_interval,
        )


class _Rate:
    """An average that forgets: each second of work weighs e times less after _SMOOTHING more."""

    def __init__(self) -> None:
        self.value = 0.0

    def add(self, count: int, seconds: float) -> None:
        if seconds <= 0:
            return
        weight = 1 - math.exp(-seconds / _SMOOTHING) if self.value else 1.0
        self.value += weight * (count / seconds - self.value)
