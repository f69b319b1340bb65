"""The workers that are known: found by name again and again, and leased one request at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from types import MappingProxyType, TracebackType
from typing import Self

import structlog
from google.protobuf.message import Message

from common.listening import joined
from edge.balancer import Balancer, LeastLoaded
from edge.resolve import Resolver, Target, is_address, resolve
from edge.worker import State, Worker
from protos.inference.v1 import inference_pb2 as pb

log = structlog.get_logger()


class Lease:
    """A request's place at a worker, credited from the moment it is taken. Given back once."""

    def __init__(self, worker: Worker, model: pb.ModelInfo) -> None:
        self.worker = worker
        # As the worker was described when it was chosen.
        self.model = model
        self._held = True
        worker.credit()

    def release(self) -> None:
        """Gives the place back; again does nothing."""
        if self._held:
            self._held = False
            self.worker.give_back()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


class Pool:
    """All workers of the targets. State: who is known, and who was last chosen."""

    def __init__(
        self,
        targets: Iterable[Target],
        *,
        resolver: Resolver = resolve,
        interval: float = 2.0,
        balancer: Balancer | None = None,
    ) -> None:
        self._targets = list(dict.fromkeys(targets))
        self._resolver = resolver
        self._interval = interval
        self._balancer = balancer or LeastLoaded()
        self._addresses: dict[Target, frozenset[str]] = {}
        self._workers: dict[str, Worker] = {}
        # Until one of them changes.
        self._models: Mapping[str, pb.ModelInfo] | None = None
        self._choices = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._retiring: set[Worker] = set()
        self._changed = asyncio.Event()

    @property
    def workers(self) -> list[Worker]:
        """By address."""
        return [self._workers[address] for address in sorted(self._workers)]

    @property
    def ready(self) -> bool:
        """Whether a worker can take a request."""
        return any(worker.available for worker in self._workers.values())

    def models(self) -> Mapping[str, pb.ModelInfo]:
        """By name; of several workers with one name an available one speaks for it."""
        if self._models is None:
            found: dict[str, pb.ModelInfo] = {}
            for worker in sorted(self.workers, key=lambda worker: not worker.available):
                if worker.info is not None:
                    found.setdefault(worker.info.name, worker.info)
            self._models = MappingProxyType(found)
        return self._models

    def serving(self, model: str) -> tuple[int, int]:
        """Workers of that model: how many could take a request now, and how many there are."""
        its = [one for one in self._workers.values() if one.info and one.info.name == model]
        return sum(one.available for one in its), len(its)

    def lease(
        self,
        model: str,
        request: Message,
        suits: Callable[[Worker], bool] = lambda _: True,
    ) -> Lease | None:
        """A place at a worker that serves the model and `suits`.

        None where there is no such worker. Choice and credit are one step: nothing is awaited.
        """
        able = {
            worker.address: worker
            for worker in self._workers.values()
            if worker.available
            and worker.info is not None
            and worker.info.name == model
            and suits(worker)
        }
        if not able:
            return None
        chosen = self._balancer.choose([worker.candidate() for worker in able.values()], request)
        worker = able[chosen.address]
        self._choices += 1
        worker.last_chosen = self._choices
        assert worker.info is not None
        return Lease(worker, worker.info)

    def start(self) -> None:
        """Begins to look for workers; returns at once."""
        for target in self._targets:
            self._spawn(self._follow(target), f"resolve {target.host}")

    async def close(self) -> None:
        """Ends everything, requests included."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        workers = [*self._workers.values(), *self._retiring]
        self._workers.clear()
        await asyncio.gather(*(worker.close() for worker in workers))

    async def until(self, condition: Callable[[], bool], seconds: float) -> None:
        """Waits for a condition on the workers. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def _follow(self, target: Target) -> None:
        if is_address(target.host):
            self._place(target, frozenset((joined(target.host, target.port),)))
            return
        failing = False
        while True:
            try:
                found = await self._resolver(target)
                failing = False
            except OSError as error:
                if not failing:
                    log.warning("cannot resolve", host=target.host, error=str(error))
                failing = True
                found = self._still_reached(target)
            self._place(target, found)
            await asyncio.sleep(self._interval)

    def _still_reached(self, target: Target) -> frozenset[str]:
        """Those that answer, while their name does not: a name server's failure drops nobody."""
        return frozenset(
            address
            for address in self._addresses.get(target, ())
            if self._workers[address].state in (State.READY, State.NOT_SERVING)
        )

    def _place(self, target: Target, found: frozenset[str]) -> None:
        if found == self._addresses.get(target):
            return
        self._addresses[target] = found
        wanted = frozenset[str]().union(*self._addresses.values())
        for address in wanted - self._workers.keys():
            self._workers[address] = Worker(address, self._notify)
            log.info("worker found", worker=address)
        for address in self._workers.keys() - wanted:
            worker = self._workers.pop(address)
            log.info("worker gone", worker=address, in_flight=worker.in_flight)
            self._spawn(self._retire(worker), f"retire {address}")
        self._notify()

    async def _retire(self, worker: Worker) -> None:
        self._retiring.add(worker)
        await worker.retire()
        self._retiring.discard(worker)

    def _spawn(self, work: Coroutine[None, None, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _notify(self) -> None:
        self._models = None
        self._changed.set()
