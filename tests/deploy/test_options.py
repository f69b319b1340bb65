"""What `make up` refuses, and what it starts."""

from __future__ import annotations

import random
import socket

import pytest

from deploy import options, up


@pytest.fixture
def gguf(tmp_path):
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF and more")
    return str(path)


@pytest.fixture
def port():
    return str(options.free_ports(1)[0])


@pytest.mark.parametrize(
    ("variable", "value", "why"),
    [
        ("PORT", "0", "not a number from 1 to 65535"),
        ("PORT", "http", "not a number from 1 to 65535"),
        ("WORKERS", "0", "not a number from 1 to 64"),
        ("WORKERS", "1.5", "not a number from 1 to 64"),
        ("THREADS", "-1", "not a number from 1 to 1024"),
        ("GPU", "rocm", "not one of cuda, vulkan, metal"),
        ("EMBED", "yes", "1 or nothing"),
        ("MODEL", "/nowhere/m.gguf", "no such file"),
        ("MODEL", "/", "a directory, not a GGUF file"),
        ("MODEL", "hf:owner", "not of the form hf:owner/repo:file-or-quant"),
        ("HOST", "256.1.2.3", "cannot listen on 256.1.2.3"),
        ("HOST", "a..b", "cannot listen on a..b: Not a host name"),
    ],
)
def test_a_wrong_variable_is_one_line_that_names_it(variable, value, why, gguf, port):
    with pytest.raises(options.OptionError) as error:
        options.read({"MODEL": gguf, "PORT": port, variable: value})
    assert why in str(error.value)
    assert str(error.value).startswith(variable)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("makeflags", "said"),
    [
        (" -- WORKER=3 PORT=9000", "WORKER: there is no such variable; did you mean WORKERS?"),
        ("s -j2 --jobserver-auth=3,4 -- PORT=9000 MODLE=a\\ b.gguf", "did you mean MODEL?"),
        (" -- port=9000", "port: there is no such variable; did you mean PORT?"),
    ],
)
def test_a_misspelt_variable_of_make_is_refused(makeflags, said, gguf, port):
    with pytest.raises(options.OptionError) as error:
        options.read({"MODEL": gguf, "PORT": port, "MAKEFLAGS": makeflags})
    assert said in str(error.value)


@pytest.mark.parametrize(
    "makeflags",
    [
        "",
        "s",
        " -- PORT=9 WORKERS=2",
        " -- EDGE_API_KEY=k VENV=x",
        " -- MODEL=/a\\ WORKER=3/b.gguf",
    ],
)
def test_other_variables_of_make_are_let_through(makeflags, gguf, port):
    found = options.read({"MODEL": gguf, "PORT": port, "MAKEFLAGS": makeflags})
    assert found == options.Options(port=int(port), models=(gguf,))


def test_a_file_that_is_no_gguf_is_refused(tmp_path, port):
    (tmp_path / "m.gguf").write_bytes(b"no")
    with pytest.raises(options.OptionError, match="not a GGUF file"):
        options.read({"MODEL": str(tmp_path / "m.gguf"), "PORT": port})


def test_a_port_in_use_is_refused(gguf):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(options.OptionError, match="in use"):
            options.read({"MODEL": gguf, "PORT": str(port)})


def test_ports_of_workers_are_not_the_kernels_to_hand_out_and_never_the_same(monkeypatch):
    ports = options.free_ports(64)
    assert len(set(ports)) == 64
    assert all(10_240 <= port < 32_000 for port in ports)
    # One that is taken, then one twice: neither is taken again.
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", ports[0]))
        drawn = iter([ports[0], ports[1], ports[1], ports[2]])
        monkeypatch.setattr(random, "randrange", lambda *_: next(drawn))
        assert options.free_ports(2) == ports[1:3]


def test_embed_without_its_model_says_so(tmp_path, gguf, port):
    with pytest.raises(options.OptionError, match=r"EMBED: .*no such file"):
        options.read({"MODEL": gguf, "PORT": port, "EMBED": "1"}, root=tmp_path)


def test_one_worker_chooses_its_own_threads_and_several_divide_the_cores(gguf, port, monkeypatch):
    monkeypatch.setattr(options, "_cores", lambda: 8)
    env = {"MODEL": gguf, "PORT": port}
    assert options.read(env).threads is None
    assert options.read({**env, "WORKERS": "3"}).threads == 2
    assert options.read({**env, "WORKERS": "16"}).threads == 1
    assert options.read({**env, "WORKERS": "3", "THREADS": "5"}).threads == 5


def test_empty_variables_are_defaults(gguf, port):
    found = options.read(
        {
            "MODEL": gguf,
            "PORT": port,
            "WORKERS": "",
            "THREADS": "",
            "GPU": "",
            "EMBED": "",
            "HOST": "",
        }
    )
    assert found == options.Options(port=int(port), models=(gguf,))


def test_the_hub_is_left_to_the_worker(port):
    model = "hf:owner/repo-GGUF:Q4_K_M"
    assert options.read({"MODEL": model, "PORT": port}).models == (model,)


def test_commands(gguf):
    started = up.commands(
        options.Options(port=9, models=(gguf, "hf:a/b"), threads=2, gpu=True), [101, 102]
    )
    edge, first, second = (" ".join(command) for command in started)
    assert edge == (
        "-m edge --host 127.0.0.1 --port 9 --worker 127.0.0.1:101 --worker 127.0.0.1:102"
    )
    common = "--threads 2 --gpu-layers all"
    assert first == f"-m services.llama --model {gguf} --host 127.0.0.1 --port 101 {common}"
    assert second == f"-m services.llama --model hf:a/b --host 127.0.0.1 --port 102 {common}"


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
    ],
)
def test_the_url_is_one_that_can_be_used(host, url):
    assert options.Options(host=host).url == url


def test_the_curl_line_survives_odd_names_and_leaves_the_embedding_model_out():
    text = up.welcome("http://u", ["caravan-demo-embed", "it's"], 1.0)
    assert "models: it's, caravan-demo-embed" in text
    assert """{"model": "it'"'"'s\"""" in text
    assert "YOUR_KEY" not in text


def test_the_curl_line_has_a_place_for_the_key_where_one_is_needed():
    text = up.welcome("http://u", ["m"], 1.0, keys=True)
    assert "-H 'authorization: Bearer YOUR_KEY' \\" in text
