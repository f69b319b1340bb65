from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from services.llama import hub
from services.llama.hub import choose
from services.worker.backend import StartupError

FILES = {
    "tiny-Q4_0.gguf": b"GGUF four",
    "tiny-Q8_0.gguf": b"GGUF eight",
    "README.md": b"hello",
}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's HTTP as its client needs for one public repository."""

    downloads = 0

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def answer(self, *, with_body):
        if self.path.startswith("/api/models/someone/tiny"):
            siblings = [{"rfilename": name} for name in FILES]
            body = json.dumps({"id": "someone/tiny", "sha": COMMIT, "siblings": siblings}).encode()
            self.reply(200, body, with_body, {"Content-Type": "application/json"})
        elif self.path.startswith("/someone/tiny/resolve/"):
            body = FILES[self.path.rsplit("/", 1)[1]]
            type(self).downloads += with_body
            etag = hashlib.sha256(body).hexdigest()
            self.reply(200, body, with_body, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})
        else:
            headers = {"X-Error-Code": "RepoNotFound", "Content-Type": "application/json"}
            self.reply(404, b'{"error": "Repository not found"}', with_body, headers)

    def reply(self, status, body, with_body, headers):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.file_download.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(Hub, "downloads", 0)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_downloads_once_and_then_takes_it_from_the_cache(endpoint):
    path = hub.locate("hf:someone/tiny:Q8_0", endpoint)
    assert path.read_bytes() == FILES["tiny-Q8_0.gguf"]
    assert hub.locate("hf:someone/tiny:tiny-Q8_0.gguf", endpoint) == path
    assert Hub.downloads == 1


def test_without_the_hub_the_cache_serves(endpoint):
    path = hub.locate("hf:someone/tiny:Q8_0", endpoint)
    assert hub.locate("hf:someone/tiny:q8_0", "http://127.0.0.1:9") == path


def test_neither_hub_nor_cache(endpoint):
    with pytest.raises(StartupError, match="cannot be reached"):
        hub.locate("hf:someone/tiny:Q8_0", "http://127.0.0.1:9")


def test_no_such_repository(endpoint):
    with pytest.raises(StartupError, match="no such repository"):
        hub.locate("hf:someone/else", endpoint)


def test_what_there_is_is_said_when_what_is_wanted_is_not(endpoint):
    with pytest.raises(StartupError, match=r"there are: tiny-Q4_0\.gguf, tiny-Q8_0\.gguf"):
        hub.locate("hf:someone/tiny:Q2_K", endpoint)


def test_a_path_is_a_path():
    assert hub.locate("models/x.gguf") == Path("models/x.gguf")


@pytest.mark.parametrize("name", ["hf:", "hf:tiny", "hf:a/b/c:Q4_0", "hf:a/b:", "hf:a/b:x y"])
def test_malformed_names(name):
    with pytest.raises(StartupError, match="owner/repo"):
        hub.locate(name)


REPOSITORY = [
    "m-Q4_0.gguf",
    "m-Q4_K_M.gguf",
    "m-Q4_K_S.gguf",
    "m-IQ4_K_M.gguf",
    "mmproj-Q4_K_M.gguf",
    "big-Q6_K-00001-of-00002.gguf",
    "big-Q6_K-00002-of-00002.gguf",
    "config.json",
]


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        ("", ["m-Q4_K_M.gguf"]),
        ("q4_k_s", ["m-Q4_K_S.gguf"]),
        ("m-Q4_0.gguf", ["m-Q4_0.gguf"]),
        ("Q6_K", REPOSITORY[5:7]),
    ],
)
def test_choice_of_files(wanted, chosen):
    assert choose("hf:a/b", REPOSITORY, wanted) == chosen


def test_a_quantization_is_matched_whole():
    with pytest.raises(StartupError):
        choose("hf:a/b", ["m-Q4_K_M.gguf"], "Q4_K")
