"""Where a server can listen, and what is said where it cannot."""

from __future__ import annotations

import socket

import pytest

from common import listening


@pytest.mark.parametrize(
    ("host", "text"), [("127.0.0.1", "127.0.0.1:80"), ("::1", "[::1]:80"), ("llama", "llama:80")]
)
def test_an_address_is_written_with_its_port(host: str, text: str):
    assert listening.joined(host, 80) == text


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", ""])
def test_one_can_listen_on_this_machine(host: str):
    listening.probe(host, 0)


# The last is kept for documentation: no machine has it.
@pytest.mark.parametrize("host", ["256.0.0.1", "a..b", "192.0.2.1"])
def test_a_host_that_is_not_this_machine_s_is_wrong(host: str):
    with pytest.raises(OSError, match=r"\w") as caught:
        listening.probe(host, 0)

    assert caught.value.strerror
    assert listening.is_wrong_host(caught.value)


def test_a_port_in_use_may_be_free_later():
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(OSError, match="in use") as caught,
    ):
        listening.probe("127.0.0.1", taken.getsockname()[1])

    assert not listening.is_wrong_host(caught.value)


def test_connections_that_were_closed_do_not_hold_a_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            served, _ = server.accept()
            served.close()
            assert client.recv(1) == b""

    listening.probe("127.0.0.1", port)


def test_a_name_that_cannot_be_looked_up_now_may_be_found_later():
    error = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    assert not listening.is_wrong_host(error)
