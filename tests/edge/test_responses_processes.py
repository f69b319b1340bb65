"""Responses of an edge that is several processes: each of them knows what another one stored."""

from __future__ import annotations

import aiohttp

from tests.edge.responding import PATH
from tests.edge.test_processes import family
from tests.fakes.worker import scripted_worker


async def test_processes_share_their_responses() -> None:
    async with scripted_worker() as worker, family("--worker", worker.address) as edge:
        body = {"model": "scripted", "input": "hi"}
        made: list[str] = []
        # Connections are spread by the kernel: ten at one process is one in five hundred.
        for _ in range(10):
            async with aiohttp.ClientSession() as http:
                previous = {"previous_response_id": made[-1]} if made else {}
                async with http.post(edge.url + PATH, json={**body, **previous}) as answer:
                    assert answer.status == 200, await answer.text()
                    made.append((await answer.json())["id"])
        for id_ in made:
            async with (
                aiohttp.ClientSession() as http,
                http.get(f"{edge.url}{PATH}/{id_}") as answer,
            ):
                assert answer.status == 200
        assert len(worker.backend.requests[-1].chat.messages) == 19
