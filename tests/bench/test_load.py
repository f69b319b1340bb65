import asyncio
from typing import Any

import orjson
import pytest
from aiohttp import web

from bench.__main__ import main
from bench.load import Client, Server, find_model, run
from bench.prompts import Shape, bodies
from bench.stats import errors, figures

USAGE = {"prompt_tokens": 9, "completion_tokens": 3}


class Fake:
    """An OpenAI server that answers by turns as told."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.seen: list[dict[str, Any]] = []
        self.connections: set[Any] = set()
        self.running = self.most = 0

    async def chat(self, request):
        body = await request.json()
        answer = self.answers[len(self.seen) % len(self.answers)]
        self.seen.append(body)
        self.connections.add(request.transport.get_extra_info("peername"))
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(0.01)
            return await getattr(self, answer)(request, body)
        finally:
            self.running -= 1

    async def models(self, request):
        return web.json_response({"data": [{"id": "fake"}]})

    async def whole(self, request, body):
        if not body["stream"]:
            return web.json_response({"choices": [], "usage": USAGE})
        response = web.StreamResponse()
        await response.prepare(request)
        for event in (
            {"choices": [{"delta": {"content": "a"}, "finish_reason": None}]},
            {"choices": [{"delta": {"content": "bc"}, "finish_reason": "length"}]},
            {"choices": [], "usage": USAGE},
        ):
            await response.write(b"data: " + orjson.dumps(event) + b"\n\n")
            await asyncio.sleep(0.001)
        await response.write(b"data: [DONE]\n\n")
        return response

    async def busy(self, request, body):
        return web.json_response({"error": {}}, status=503)

    async def dropped(self, request, body):
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b'data: {"choices":[]}\n\n')
        request.transport.abort()
        return response


@pytest.fixture
async def serve():
    runners = []

    async def start(fake):
        app = web.Application()
        app.router.add_post("/v1/chat/completions", fake.chat)
        app.router.add_get("/v1/models", fake.models)
        runner = web.AppRunner(app)
        await runner.setup()
        runners.append(runner)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}/v1"

    yield start
    for runner in runners:
        await runner.cleanup()


async def test_a_closed_loop_with_a_connection_for_each_request(serve):
    fake = Fake("whole")
    server = Server("fake", await serve(fake), "fake")
    samples = await run(Client(), server, bodies(Shape(), "plain", 3, 1, 9), 3)
    assert figures(samples).output_tokens == 27
    assert not errors(samples)
    assert fake.most == 3
    assert len(fake.connections) == 9
    assert {body["model"] for body in fake.seen} == {"fake"}


async def test_answers_that_are_not_streamed(serve):
    fake = Fake("whole")
    server = Server("fake", await serve(fake), "fake")
    samples = await run(Client(keep_alive=True), server, bodies(Shape(), "nonstream", 1, 1, 3), 1)
    assert figures(samples).output_tokens == 9
    assert figures(samples).ttft_p50_ms is None
    assert len(fake.connections) == 1


async def test_a_server_that_fails_is_counted_and_the_rest_goes_on(serve):
    server = Server("fake", await serve(Fake("whole", "busy", "dropped")), "fake")
    samples = await run(Client(), server, bodies(Shape(), "plain", 2, 1, 9), 2)
    found = errors(samples)
    assert found["http 503"] == 3
    assert sum(found.values()) == 6
    assert figures(samples).output_tokens == 9


async def test_nobody_there():
    server = Server("none", "http://127.0.0.1:9/v1", "m")
    samples = await run(Client(), server, bodies(Shape(), "plain", 1, 1, 2), 1)
    assert sum(errors(samples).values()) == 2


async def test_the_model_is_found(serve):
    assert await find_model(Client(), await serve(Fake("whole"))) == "fake"


async def test_two_servers_take_turns_and_the_report_says_all(serve, tmp_path, capsys):
    fakes = [Fake("whole"), Fake("whole", "busy")]
    urls = [await serve(fake) for fake in fakes]
    out = tmp_path / "out.json"
    args = ["--url", f"a={urls[0]}", "--url", f"b={urls[1]}", "--runs", "2", "--json", str(out)]
    args += ["--concurrency", "1,2", "--requests", "2", "--scenario", "nonstream,plain"]
    assert await asyncio.to_thread(main, args) == 0
    found = orjson.loads(out.read_bytes())
    assert [(c["scenario"], c["concurrency"], c["server"]) for c in found["cells"]] == [
        (scenario, concurrency, server)
        for scenario in ("plain", "nonstream")
        for concurrency in (1, 2)
        for server in ("a", "b")
    ]
    assert all(len(cell["runs"]) == 2 for cell in found["cells"])
    first, second = found["cells"][:2]
    assert first["ratio_to_first"]["output_tokens_per_s"] == 1
    assert second["errors"] == {"http 503": 2}
    assert {"cpu", "cores", "date", "versions", "load_average_before"} <= found["conditions"].keys()
    # The same requests for both, the dropped warm-up included.
    key = orjson.dumps
    assert sorted(map(key, fakes[0].seen)) == sorted(map(key, fakes[1].seen))
    assert len(fakes[0].seen) == 3 * 4 * 2
    shown = capsys.readouterr().out
    assert "| plain " in shown
    assert "2 http 503" in shown


def test_nothing_to_measure_is_one_line_and_not_a_traceback(capsys):
    assert main(["--url", "x=http://127.0.0.1:9/v1"]) == 2
    assert capsys.readouterr().err.startswith("bench: ")
