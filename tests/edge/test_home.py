"""GET /: the same for machines and for people."""

from __future__ import annotations

from edge.api.home import page
from edge.routes import mounted
from protos.inference.v1 import inference_pb2 as pb
from tests.edge.running import raw, running_edge
from tests.fakes.scripted import model_info
from tests.fakes.worker import scripted_worker

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


async def test_machines_get_json_and_every_route() -> None:
    async with (
        scripted_worker() as worker,
        running_edge(worker.address) as edge,
        edge.http.get(edge.url) as answer,
    ):
        assert answer.content_type == "application/json"
        assert answer.headers["Vary"] == "Accept"
        about = await answer.json()
        assert about["base_url"] == edge.url + "/v1"
    assert about["models"] == ["scripted"]
    assert about["endpoints"] == [f"{each.route.method} {each.name}" for each in mounted()]


async def test_people_get_a_page() -> None:
    async with (
        scripted_worker(model=model_info(name="a-vectors", capabilities=[])) as vectors,
        scripted_worker(
            model=model_info(name="<b>ad", capabilities=[pb.CAPABILITY_CHAT])
        ) as worker,
        running_edge(worker.address, vectors.address) as edge,
    ):
        async with edge.http.get(edge.url, headers=BROWSER) as answer:
            assert answer.content_type == "text/html"
            assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
            text = await answer.text()
        head = f"GET / HTTP/1.0\r\nHost: <script>\r\nAccept: {BROWSER['Accept']}\r\n\r\n"
        assert b"<script>" not in await raw(edge, head.encode())
    assert f"<code>{edge.url}/v1</code>" in text
    assert "<b>" not in text
    assert "<li><code>&lt;b&gt;ad</code></li>" in text
    # The one that can chat is asked in the example.
    assert "model=&#x27;&lt;b&gt;ad&#x27;" in text
    for each in mounted():
        assert f"{each.route.method} {each.name}" in text


def test_a_page_without_models_and_with_keys() -> None:
    text = page("http://x/v1", [], ["GET /docs"], keys=True)
    assert "no worker has answered" in text
    assert "authorization: Bearer YOUR_KEY" in text
    assert 'href="/docs"' in text
    assert "YOUR_KEY" not in page("http://x/v1", ["it's"], [], keys=False)
    assert "it&#x27;\\&#x27;&#x27;s" in page("http://x/v1", ["it's"], [], keys=False)
