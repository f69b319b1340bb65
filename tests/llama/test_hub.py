from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from structlog.testing import capture_logs

from services.llama import hub
from services.llama.hub import choose
from services.worker.backend import SettingError, StartupError

FILES = {
    "tiny-Q4_0.gguf": b"GGUF four",
    "tiny-Q8_0.gguf": b"GGUF eight" + bytes(range(256)) * 400,
    "big-Q6_K-00001-of-00002.gguf": b"GGUF first part",
    "big-Q6_K-00002-of-00002.gguf": b"GGUF second part",
    "README.md": b"hello",
}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's HTTP as its client needs for one public repository."""

    # File and first byte of each body that was asked for.
    downloads: ClassVar[list[tuple[str, int]]] = []
    # What goes wrong.
    cut_after: ClassVar[list[int]] = []
    damaged: ClassVar[set[str]] = set()
    broken: ClassVar[set[str]] = set()
    # Path prefix to status and X-Error-Code.
    refusals: ClassVar[dict[str, tuple[int, str]]] = {}
    tokens: ClassVar[list[str]] = []

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def answer(self, *, with_body):
        self.tokens.append(self.headers.get("Authorization", ""))
        for prefix, (status, code) in self.refusals.items():
            if self.path.startswith(prefix):
                self.reply(status, b'{"error": "no"}', with_body, {"X-Error-Code": code})
                return
        if self.path.startswith("/api/models/someone/tiny"):
            siblings = [{"rfilename": name} for name in FILES]
            body = json.dumps({"id": "someone/tiny", "sha": COMMIT, "siblings": siblings}).encode()
            self.reply(200, body, with_body, {"Content-Type": "application/json"})
        elif self.path.startswith("/someone/tiny/resolve/"):
            self.send_model(self.path.rsplit("/", 1)[1], with_body)
        else:
            headers = {"X-Error-Code": "RepoNotFound", "Content-Type": "application/json"}
            self.reply(404, b'{"error": "Repository not found"}', with_body, headers)

    def send_model(self, name, with_body):
        if with_body and name in self.broken:
            self.reply(500, b"", with_body, {})
            return
        body = FILES[name]
        etag = hashlib.sha256(body).hexdigest()
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}
        if name in self.damaged:
            body = body[:-1] + b"!"
        span = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(span[1]) if span else 0
        if span:
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        if with_body:
            self.downloads.append((name, start))
        self.reply(206 if span else 200, body[start:], with_body, headers)

    def reply(self, status, body, with_body, headers):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            cut = self.cut_after.pop() if self.cut_after and "ETag" in headers else None
            self.wfile.write(body[:cut])

    def log_message(self, *args):
        pass


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.file_download.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(Hub, "downloads", [])
    monkeypatch.setattr(Hub, "cut_after", [])
    monkeypatch.setattr(Hub, "damaged", set())
    monkeypatch.setattr(Hub, "broken", set())
    monkeypatch.setattr(Hub, "refusals", {})
    monkeypatch.setattr(Hub, "tokens", [])
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
    assert Hub.downloads == [("tiny-Q8_0.gguf", 0)]


@pytest.mark.parametrize(
    "wanted", ["Q6_K", "big-Q6_K-00001-of-00002.gguf", "big-Q6_K-00002-of-00002.gguf"]
)
def test_all_parts_of_a_split_model_are_fetched(endpoint, wanted):
    path = hub.locate(f"hf:someone/tiny:{wanted}", endpoint)
    assert path.name == "big-Q6_K-00001-of-00002.gguf"
    second = path.with_name("big-Q6_K-00002-of-00002.gguf")
    assert second.read_bytes() == FILES[second.name]


def test_a_cut_connection_is_resumed(endpoint, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 4096)
    Hub.cut_after.append(70_000)
    path = hub.locate("hf:someone/tiny:Q8_0", endpoint)
    assert path.read_bytes() == FILES["tiny-Q8_0.gguf"]
    (_, first), (_, second) = Hub.downloads
    assert first == 0
    assert 0 < second <= 70_000


def test_a_file_that_is_not_what_the_hub_says_is_not_kept(endpoint, tmp_path):
    Hub.damaged.add("tiny-Q8_0.gguf")
    with pytest.raises(StartupError, match=r"tiny-Q8_0\.gguf came damaged \(wrong SHA-256\)"):
        hub.locate("hf:someone/tiny:Q8_0", endpoint)
    assert not list(tmp_path.rglob("*.gguf"))
    Hub.damaged.clear()
    path = hub.locate("hf:someone/tiny:Q8_0", endpoint)
    assert path.read_bytes() == FILES["tiny-Q8_0.gguf"]


def test_a_new_version_is_checked_as_the_first_was(endpoint, monkeypatch):
    old = hub.locate("hf:someone/tiny:Q8_0", endpoint)
    monkeypatch.setattr("tests.llama.test_hub.COMMIT", COMMIT[::-1])
    monkeypatch.setitem(FILES, "tiny-Q8_0.gguf", b"GGUF eight, again")
    Hub.damaged.add("tiny-Q8_0.gguf")
    with pytest.raises(StartupError, match=r"tiny-Q8_0\.gguf came damaged"):
        hub.locate("hf:someone/tiny:Q8_0", endpoint)
    Hub.damaged.clear()
    new = hub.locate("hf:someone/tiny:Q8_0", endpoint)
    assert new != old
    assert new.read_bytes() == FILES["tiny-Q8_0.gguf"]


@pytest.mark.parametrize(
    ("prefix", "status", "code", "sentence"),
    [
        ("/api/", 401, "RepoNotFound", "no such repository, or it is private"),
        ("/api/", 404, "RepoNotFound", "no such repository, or it is private"),
        ("/api/", 403, "GatedRepo", "accepted licence and HF_TOKEN"),
        ("/api/", 403, "", "HF_TOKEN is wrong or not allowed"),
        ("/someone/", 403, "GatedRepo", r"tiny-Q8_0\.gguf: access needs an accepted licence"),
        ("/someone/", 401, "RepoNotFound", r"tiny-Q8_0\.gguf: the hub has no such repository"),
        ("/someone/", 404, "EntryNotFound", r"tiny-Q8_0\.gguf: the hub has no such file"),
    ],
)
def test_what_the_hub_refuses_is_one_clear_line(endpoint, prefix, status, code, sentence):
    Hub.refusals[prefix] = (status, code)
    with pytest.raises(StartupError, match=sentence) as caught:
        hub.locate("hf:someone/tiny:Q8_0", endpoint)
    assert "\n" not in str(caught.value)


def test_offline_by_setting_the_cache_serves_and_the_hub_is_not_asked(endpoint, monkeypatch):
    path = hub.locate("hf:someone/tiny:Q6_K", endpoint)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    Hub.tokens.clear()
    assert hub.locate("hf:someone/tiny:q6_k", endpoint) == path
    with pytest.raises(StartupError, match=r"there are: big-Q6_K-00001-of-00002\.gguf"):
        hub.locate("hf:someone/tiny:Q8_0", endpoint)
    with pytest.raises(StartupError, match="cannot be reached and the model is not in the local"):
        hub.locate("hf:someone/else", endpoint)
    assert Hub.tokens == []


def test_offline_with_a_part_missing(endpoint, monkeypatch):
    path = hub.locate("hf:someone/tiny:Q6_K", endpoint)
    path.with_name("big-Q6_K-00002-of-00002.gguf").unlink()
    with pytest.raises(StartupError, match=r"1 of 2 parts missing: big-Q6_K-00002-of-00002\.gguf"):
        hub.locate("hf:someone/tiny:Q6_K", "http://127.0.0.1:9")


@pytest.mark.parametrize("status", [500, 503])
def test_an_ill_hub_is_no_reason_not_to_start(endpoint, status):
    path = hub.locate("hf:someone/tiny:Q8_0", endpoint)
    Hub.refusals["/"] = (status, "")
    assert hub.locate("hf:someone/tiny:Q8_0", endpoint) == path


def renew(monkeypatch):
    """The hub has a new version of its files."""
    monkeypatch.setattr("tests.llama.test_hub.COMMIT", COMMIT[::-1])
    for name, body in FILES.items():
        monkeypatch.setitem(FILES, name, b"GGUF anew: " + body)


@pytest.mark.parametrize("name", ["Q8_0", "Q6_K"])
def test_a_new_version_that_cannot_be_had_leaves_the_old_one(endpoint, monkeypatch, name):
    wanted = f"hf:someone/tiny:{name}"
    old = hub.locate(wanted, endpoint)
    renew(monkeypatch)
    # Of the split model the first part comes.
    Hub.broken.update(("tiny-Q8_0.gguf", "big-Q6_K-00002-of-00002.gguf"))
    with capture_logs() as logs:
        assert hub.locate(wanted, endpoint) == old
    assert "an older version is used, which is cached" in {line["event"] for line in logs}
    # Nor does what was tried stand in the way of it when nothing can be tried.
    assert hub.locate(wanted, "http://127.0.0.1:9") == old
    Hub.broken.clear()
    assert hub.locate(wanted, endpoint) != old


def test_a_cache_that_cannot_be_written_serves_what_it_has(endpoint, monkeypatch, tmp_path):
    old = hub.locate("hf:someone/tiny:Q8_0", endpoint)
    renew(monkeypatch)

    def download(*args, **options):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("services.llama.hub_client.hf_hub_download", download)
    assert hub.locate("hf:someone/tiny:Q8_0", endpoint) == old
    with pytest.raises(StartupError, match=r"tiny-Q4_0\.gguf: download failed: .* Read-only file"):
        hub.locate("hf:someone/tiny:Q4_0", endpoint)


def test_a_file_with_a_name_that_leads_elsewhere_is_one_line(endpoint, monkeypatch):
    monkeypatch.setitem(FILES, "../../x-Q2_K.gguf", b"GGUF")
    with pytest.raises(StartupError, match=r"x-Q2_K\.gguf: download failed: Invalid filename"):
        hub.locate("hf:someone/tiny:Q2_K", endpoint)


def test_progress_is_a_bar_on_a_terminal_and_lines_elsewhere(endpoint, monkeypatch, capfd):
    with capture_logs() as logs:
        hub.locate("hf:someone/tiny:Q8_0", endpoint)
    assert [line["file"] for line in logs] == ["tiny-Q8_0.gguf"] * len(logs)
    assert logs
    assert "\r" not in capfd.readouterr().err
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with capture_logs() as logs:
        hub.locate("hf:someone/tiny:Q4_0", endpoint)
    assert logs == []
    assert "tiny-Q4_0.gguf" in capfd.readouterr().err


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
    with pytest.raises(StartupError, match=r"there are: .*, tiny-Q4_0\.gguf, tiny-Q8_0\.gguf"):
        hub.locate("hf:someone/tiny:Q2_K", endpoint)


def test_a_path_is_a_path():
    assert hub.locate("models/x.gguf") == Path("models/x.gguf")


def test_a_worker_with_a_path_does_without_the_client():
    # In a process of its own: other tests have imported it.
    program = (
        "import sys, services.llama.backend; from services.llama import hub\n"
        "hub.locate('models/x.gguf')\n"
        "print(*(name for name in sys.modules if name.startswith('huggingface_hub')))"
    )
    line = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("name", ["hf:", "hf:tiny", "hf:a/b/c:Q4_0", "hf:a/b:", "hf:a/b:x y"])
def test_malformed_names(name):
    with pytest.raises(SettingError, match="owner/repo"):
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


@pytest.mark.parametrize("wanted", ["", "q4_0"])
def test_several_models_of_a_quantization_are_listed(wanted):
    files = ["small-Q4_0.gguf", "large-Q4_0.gguf", "large-Q8_0.gguf"]
    with pytest.raises(StartupError, match=r"name the file: large-Q4_0\.gguf, small-Q4_0\.gguf"):
        choose("hf:a/b", files, wanted)


def test_parts_that_the_repository_lacks_are_named():
    files = [f"m-Q4_0-0000{at}-of-00005.gguf" for at in (1, 3)]
    with pytest.raises(StartupError, match=r"3 of 5 parts missing: m-Q4_0-00002-of-00005\.gguf, "):
        choose("hf:a/b", files, "Q4_0")


def test_a_quantization_is_matched_whole():
    with pytest.raises(StartupError):
        choose("hf:a/b", ["m-Q4_K_M.gguf"], "Q4_K")


def test_projectors_lie_beside_models():
    files = ["m-Q4_0.gguf", "mmproj-m-BF16.gguf", "mmproj-m-F16.gguf", "mmproj-m-Q8_0.gguf"]
    assert choose("hf:a/b", files, "") == ["m-Q4_0.gguf"]
    assert choose("hf:a/b", files, "", projector=True) == ["mmproj-m-F16.gguf"]
    assert choose("hf:a/b", files, "q8_0", projector=True) == ["mmproj-m-Q8_0.gguf"]
    named = "mmproj-m-BF16.gguf"
    assert choose("hf:a/b", files, named, projector=True) == [named]
    with pytest.raises(StartupError, match="no GGUF files"):
        choose("hf:a/b", ["m-Q4_0.gguf"], "", projector=True)
