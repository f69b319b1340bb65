"""What a worker counts, in a registry of its own, and the listener that shows it to Prometheus."""

from __future__ import annotations

from collections.abc import Iterable
from threading import Thread
from wsgiref.simple_server import WSGIServer

import grpc
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from prometheus_client.registry import Collector

# Seconds. A call lasts from a few ms (Tokenize) to minutes (a long answer on a small machine).
_DURATIONS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900)
_TTFT = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class WorkerMetrics:
    """Counts of one server; `registry` takes the backend's own collectors too."""

    def __init__(self, collectors: Iterable[Collector] = ()) -> None:
        self.registry = CollectorRegistry()
        self._calls = Counter(
            "caravan_worker_calls",
            "Calls that ended, by RPC and gRPC status.",
            ("rpc", "status"),
            registry=self.registry,
        )
        self._in_flight = Gauge(
            "caravan_worker_calls_in_flight",
            "Calls that are running or waiting.",
            ("rpc",),
            registry=self.registry,
        )
        self._duration = Histogram(
            "caravan_worker_call_seconds",
            "Time from a call's arrival to its status.",
            ("rpc",),
            buckets=_DURATIONS,
            registry=self.registry,
        )
        self._ttft = Histogram(
            "caravan_worker_ttft_seconds",
            "Time from a Generate call's arrival to its first delta.",
            buckets=_TTFT,
            registry=self.registry,
        )
        self._tokens = Counter(
            "caravan_worker_tokens",
            "Tokens of ended calls: prompt, of those cached, and completion.",
            ("kind",),
            registry=self.registry,
        )
        for collector in collectors:
            self.registry.register(collector)

    def began(self, rpc: str) -> None:
        """A call arrived."""
        self._in_flight.labels(rpc).inc()

    def ended(self, rpc: str, status: grpc.StatusCode, seconds: float) -> None:
        """A call ended, or its caller went away."""
        self._in_flight.labels(rpc).dec()
        self._calls.labels(rpc, status.name).inc()
        self._duration.labels(rpc).observe(seconds)

    def used(self, prompt: int, cached: int, completion: int, ttft: float | None) -> None:
        """What an ended call used; `ttft` in seconds, None without a first delta."""
        self._tokens.labels("prompt").inc(prompt)
        self._tokens.labels("cached").inc(cached)
        self._tokens.labels("completion").inc(completion)
        if ttft is not None:
            self._ttft.observe(ttft)


class MetricsListener:
    """The HTTP listener: a thread, so that a scrape never waits for the event loop."""

    def __init__(self, metrics: WorkerMetrics, host: str, port: int) -> None:
        """Binds at once. Raises OSError."""
        self._server: WSGIServer
        self._thread: Thread
        self._server, self._thread = start_http_server(port, host, metrics.registry)

    @property
    def port(self) -> int:
        """The port in use."""
        return self._server.server_port

    def close(self) -> None:
        """Stops listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
