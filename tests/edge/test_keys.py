"""Keys as they are written, hashed, found, and read again when their file changes."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.settings import ConfigError
from edge.access import __main__ as command
from edge.access import keyfile
from edge.access.keyed import Keyed, presented
from edge.access.keys import Key, KeyRing, KeysError, hashed, parse, read
from edge.config import EdgeSettings, is_loopback

KEYS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=512)


def sha(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


@given(KEYS.filter(lambda key: not key.startswith("sha256:")), KEYS)
def test_a_key_is_found_by_itself_and_by_nothing_else(key: str, other: str) -> None:
    for written in (key, hashed(key), hashed(hashed(key))):
        ring = KeyRing([read(written, "alice")])
        assert ring.find(key) == "alice"
        assert ring.find(hashed(key)) is None
        if other != key:
            assert ring.find(other) is None


def test_a_key_without_a_name_is_called_after_its_hash() -> None:
    assert read("sk-1").name == f"key-{sha('sk-1').hex()[:8]}" == read(hashed("sk-1")).name


@pytest.mark.parametrize(
    "text", ["", "a b", "ä", "x" * 513, "sha256:", "sha256:abc", "sha256:" + "g" * 64, "a\n"]
)
def test_what_is_no_key(text: str) -> None:
    with pytest.raises(KeysError) as error:
        read(text)
    assert "abc" not in str(error.value)


@given(st.binary(max_size=64))
def test_headers_of_any_bytes_are_nobodys(data: bytes) -> None:
    assert KeyRing([read("k")]).find(data.decode(errors="surrogateescape")) == (
        None if data != b"k" else read("k").name
    )


LINES = f"""
# who may
alice: sk-a
alice  {hashed("sk-b")}
bob    sk-c
sk-d
  12345
"""
YAML = f"""
# who may
alice: [sk-a, "{hashed("sk-b")}"]
bob: sk-c
"""


def test_files() -> None:
    named = {("alice", sha("sk-a")), ("alice", sha("sk-b")), ("bob", sha("sk-c"))}
    found = {(key.name, key.digest) for key in parse(LINES)}
    assert found == named | {(read(key).name, sha(key)) for key in ("sk-d", "12345")}
    assert {(key.name, key.digest) for key in parse(YAML, as_yaml=True)} == named
    assert parse("- sk-a\n- sk-d\n", as_yaml=True) == (read("sk-a"), read("sk-d"))
    assert parse("") == parse("# none\n", as_yaml=True) == ()


@pytest.mark.parametrize(
    ("text", "as_yaml", "says"),
    [
        ("a: b c", False, "line 1: more than a name and a key"),
        ("\nalice: ä", False, "line 2: a key is"),
        ("a: secret\nb: secret", False, "a key is there twice"),
        ("a: secret\na: secret2", True, "a name is there twice"),
        ("a: 12345", True, "entry 1: names and keys are text"),
        ("1: secret", True, "entry 1: names and keys are text"),
        ("- [secret]", True, "entry 1: names and keys are text"),
        ("a: {b: secret}", True, "entry 1: names and keys are text"),
        ("secret", True, "neither a mapping"),
        ("a: [secret", True, "not YAML"),
        ("a: sha256:12secret", False, "line 1: a hash is"),
    ],
)
def test_files_that_cannot_be_used(text: str, as_yaml: bool, says: str) -> None:
    with pytest.raises(KeysError, match=says) as error:
        parse(text, as_yaml=as_yaml)
    assert "secret" not in str(error.value)


@given(st.text(max_size=60), st.booleans())
def test_any_file_is_read_or_refused(text: str, as_yaml: bool) -> None:
    with contextlib.suppress(KeysError):
        assert all(isinstance(key, Key) for key in parse(text, as_yaml=as_yaml))


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ({}, []),
        ({"Authorization": "Bearer k"}, ["k"]),
        ({"Authorization": "bearer   k "}, ["k"]),
        ({"Authorization": "k"}, ["k"]),
        ({"Authorization": "Bearer"}, []),
        ({"Authorization": "  "}, []),
        ({"Authorization": "Basic k"}, ["Basic k"]),
        ({"api-key": "k"}, ["k"]),
        ({"x-api-key": " k "}, ["k"]),
        ({"openai-event-code": "event/user"}, ["event/user"]),
        ({"Authorization": "Bearer other", "api-key": "k"}, ["other", "k"]),
    ],
)
def test_where_keys_are_looked_for(headers: dict[str, str], found: list[str]) -> None:
    assert list(presented(headers)) == found


def test_settings_hold_hashes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_API_KEY", f"sk-one, {hashed('sk-two')}")
    settings = EdgeSettings.read("caravan-edge", [])
    assert settings.api_key == (hashed("sk-one"), hashed("sk-two"))
    assert "sk-one" not in repr(settings)
    assert sha("sk-one").hex() not in repr(settings)


@pytest.mark.parametrize(
    ("host", "is_one"),
    [
        ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True),
        ("0.0.0.0", False), ("::", False), ("", False), ("192.168.1.2", False), ("edge", False),
        ("localhost.example", False),
    ],
)  # fmt: skip
def test_loopback(host: str, is_one: bool) -> None:
    assert is_loopback(host) == is_one


def test_an_address_of_others_needs_keys_or_a_word(tmp_path: Path) -> None:
    for args in ([], ["--host", "localhost"]):
        EdgeSettings.read("caravan-edge", args)
    public = ["--host", "0.0.0.0"]
    for allowed in (["--api-key", "k"], ["--allow-anonymous"], ["--api-keys-file", str(tmp_path)]):
        EdgeSettings.read("caravan-edge", [*public, *allowed])
    with pytest.raises(ConfigError) as error:
        EdgeSettings.read("caravan-edge", public)
    for word in ("0.0.0.0", "--api-key", "EDGE_API_KEY", "--allow-anonymous"):
        assert word in str(error.value)


class TestFile:
    """A file that changes."""

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        path = tmp_path / "keys"
        path.write_text("alice: sk-a\n")
        return path

    def open(self, path: Path) -> tuple[keyfile.KeyFile, Keyed]:
        access, file = keyfile.access(EdgeSettings(api_key=("sk-fixed",), api_keys_file=path))
        assert file is not None
        assert isinstance(access, Keyed)
        return file, access

    def write(self, path: Path, text: str) -> None:
        path.write_text(text)

    async def test_it_is_read_again_when_it_changes(self, path: Path) -> None:
        file, access = self.open(path)
        assert access.ring.find("sk-a") == "alice"
        assert access.ring.find("sk-fixed") is not None
        ring = access.ring
        await file.look_again()
        assert access.ring is ring
        self.write(path, "bob: sk-b\n")
        await file.look_again()
        assert access.ring.find("sk-a") is None
        assert access.ring.find("sk-b") == "bob"
        assert access.ring.find("sk-fixed") is not None

    async def test_it_is_followed(self, path: Path) -> None:
        file, access = self.open(path)
        following = asyncio.create_task(file.follow(0.005))
        self.write(path, "bob: sk-bob\n")
        async with asyncio.timeout(10):
            while access.ring.find("sk-bob") is None:
                await asyncio.sleep(0.005)
        following.cancel()

    async def test_what_cannot_be_read_changes_nothing(self, path: Path) -> None:
        file, access = self.open(path)
        for write in (
            lambda: path.write_text("bob: two keys here\n"),
            lambda: path.write_bytes(b"\xff\xfe\n"),
            path.unlink,
        ):
            write()
            await file.look_again()
            assert access.ring.find("sk-a") == "alice"
        self.write(path, "bob: sk-b\n")
        await file.look_again()
        assert access.ring.find("sk-a") is None

    async def test_it_may_become_empty_and_then_nobody_is_let_in(self, path: Path) -> None:
        file, access = self.open(path)
        self.write(path, "")
        await file.look_again()
        assert access.ring.find("sk-a") is None
        assert access.ring.find("") is None

    def test_yaml_by_its_name(self, path: Path) -> None:
        path = path.with_suffix(".yaml")
        self.write(path, "alice: [sk-a, sk-b]\n")
        _, access = self.open(path)
        assert access.ring.find("sk-b") == "alice"

    @pytest.mark.parametrize("text", ["", "a: b c", None])
    def test_at_the_start_it_must_be_right(self, path: Path, text: str | None) -> None:
        if text is None:
            path.unlink()
        else:
            path.write_text(text)
        with pytest.raises(ConfigError, match="--api-keys-file"):
            keyfile.access(EdgeSettings(api_keys_file=path))


def test_the_command_makes_a_key_and_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["alice"]) == 0
    line, key = capsys.readouterr()
    (made,) = parse(line)
    assert (made.name, made.digest) == ("alice", sha(key.strip()))
    assert key.strip() not in line
    assert len(key.strip()) > 40


def test_the_command_hashes_a_key(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import io

    monkeypatch.setattr("sys.stdin", io.StringIO("sk-mine\n"))
    assert command.main(["bob", "--stdin"]) == 0
    assert capsys.readouterr() == (f"bob: {hashed('sk-mine')}\n", "")
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    with pytest.raises(SystemExit):
        command.main(["bob", "--stdin"])
