"""What all handlers of one edge share."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Final, Protocol

from aiohttp import web

from edge.access.identity import Access, Open
from edge.admission import Admission
from edge.config import EdgeSettings
from edge.errors import ApiError
from edge.metrics import Metrics
from edge.pace import Pace
from edge.pool import Pool


class Ends(Protocol):
    """What is being served, as a process sees it that shuts down."""

    def end(self, error: ApiError) -> None:
        """Makes whoever waits for it get this error now."""
        ...


@dataclass(slots=True)
class Edge:
    """`generations` are those being served, to end them at shutdown; `since` in Unix seconds."""

    settings: EdgeSettings
    pool: Pool
    admission: Admission
    metrics: Metrics
    access: Access = field(default_factory=Open)
    pace: Pace = field(default_factory=Pace)
    since: int = field(default_factory=lambda: int(time.time()))
    generations: set[Ends] = field(default_factory=set)


EDGE: Final = web.AppKey("edge", Edge)
