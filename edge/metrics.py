"""What is counted, for Prometheus. Labels have few values: routes, statuses, models, states."""

from __future__ import annotations

import os
from collections import Counter as Count
from collections.abc import Iterable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
    multiprocess,
    values,
)

from edge.resume import Outcome
from edge.worker import State, Worker

# Twice the series for the time at which each began.
disable_created_metrics()  # type: ignore[no-untyped-call]

# The variable by which prometheus_client is told where processes keep what they count.
FOLDER = "PROMETHEUS_MULTIPROC_DIR"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_FINE_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """One edge's metrics in a registry of their own, so that tests can have several."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "caravan_edge_requests",
            "Requests answered",
            ["route", "status"],
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "caravan_edge_requests_in_flight",
            "Requests being served",
            registry=self.registry,
            multiprocess_mode="livesum",
        )
        self.duration = Histogram(
            "caravan_edge_request_duration_seconds",
            "From the head of a request to the end of its answer",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.first_token = Histogram(
            "caravan_edge_time_to_first_token_seconds",
            "From the head of a request to its first token",
            ["model"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.inter_token = Histogram(
            "caravan_edge_inter_token_seconds",
            "Between deltas of one answer",
            ["model"],
            buckets=_FINE_SECONDS,
            registry=self.registry,
        )
        self.tokens = Counter(
            "caravan_edge_tokens",
            "Tokens of answered requests",
            ["model", "kind"],
            registry=self.registry,
        )
        self.resumed = Counter(
            "caravan_edge_resumed",
            "Answers whose worker was lost in the middle, by what became of them",
            ["outcome"],
            registry=self.registry,
        )
        # From the start, so that the first loss is seen as an increase.
        for outcome in Outcome:
            self.resumed.labels(str(outcome))
        self.workers = Gauge(
            "caravan_edge_workers",
            "Workers known",
            ["state"],
            registry=self.registry,
            # All processes look at the same ones.
            multiprocess_mode="livemostrecent",
        )

    def render(self, workers: Iterable[Worker]) -> bytes:
        """Everything, in Prometheus' text format."""
        states = Count(worker.state for worker in workers)
        for state in State:
            self.workers.labels(str(state)).set(states[state])
        return generate_latest(_of_all() or self.registry)


def share(process: int) -> None:
    """Keeps what is counted from here on in files, so that every process can tell the sum.

    By number and not by pid: a process that is started again counts on where its predecessor
    ended. To be called before anything is counted; the folder is in the environment.
    """
    values.ValueClass = values.MultiProcessValue(lambda: process)  # type: ignore[no-untyped-call]


def forget(process: int, folder: str) -> None:
    """What a process that ended had going on is over."""
    multiprocess.mark_process_dead(process, folder)  # type: ignore[no-untyped-call]


def _of_all() -> CollectorRegistry | None:
    """What all processes have counted; None where there is one."""
    if FOLDER not in os.environ:
        return None
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return registry
