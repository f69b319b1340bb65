import asyncio
import os

import orjson
import pytest

from bench import local
from bench.__main__ import main
from bench.children import ChildError
from bench.load import Client, Server, find_model, run
from bench.probes import Process
from bench.prompts import Shape, bodies
from bench.stats import errors, figures
from bench.verdicts import BARS
from tests.bench.server import Fake


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


def test_what_does_not_go_together_is_refused(capsys):
    for wrong in (
        ["--scenario", "all", "--url", "a=http://127.0.0.1:9/v1"],
        ["--stage", "few"],
        ["--scenario", "all,plain"],
    ):
        with pytest.raises(SystemExit) as ended:
            main(wrong)
        assert ended.value.code == 2
    assert "starts its own servers" in capsys.readouterr().err


async def test_every_stage_that_cannot_be_measured_is_named_and_the_others_go_on(
    monkeypatch, capsys, serve, tmp_path
):
    fakes = {"caravan-nospec": Fake("echo"), "caravan": Fake("echo", "busy")}
    urls = {name: await serve(fake) for name, fake in fakes.items()}
    process = Process(os.getpid(), tmp_path, 0, 0)

    def start(stack, kinds, options):
        if options.parallel != 8 or "llama-server" in kinds:
            raise ChildError("no such server here")
        return {kind: local.Started(urls[kind], process) for kind in kinds}

    monkeypatch.setattr(local, "start", start)
    out = tmp_path / "out.json"
    line = ["--scenario", "all", "--stage", "few,many,copy", "--runs", "1", "--json", str(out)]
    assert await asyncio.to_thread(main, line) == 1
    found = orjson.loads(out.read_bytes())
    assert found["problems"].keys() == {"few", "many"}
    assert {cell["server"] for cell in found["cells"]} == {"caravan-nospec", "caravan"}
    copied = [cell["median"]["copied_share"] for cell in found["cells"]]
    assert copied == [1, 1]
    shown = capsys.readouterr().out
    assert "stage many was not measured: no such server here" in shown
    assert "forced-copy x1, tok/s of caravan: " in shown
    assert "caravan failed: 1 http 503" in shown
    assert len(found["verdicts"]) == len(BARS)
