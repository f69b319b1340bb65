"""What all handlers of one edge share."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from edge.access.identity import Access, Open
from edge.admission import Admission
from edge.config import EdgeSettings
from edge.generation import Generation
from edge.metrics import Metrics
from edge.pool import Pool


@dataclass(slots=True)
class Edge:
    """`generations` are those being served, to end them at shutdown; `since` in Unix seconds."""

    settings: EdgeSettings
    pool: Pool
    admission: Admission
    metrics: Metrics
    access: Access = field(default_factory=Open)
    since: int = field(default_factory=lambda: int(time.time()))
    generations: set[Generation] = field(default_factory=set)


EDGE: Final = web.AppKey("edge", Edge)
