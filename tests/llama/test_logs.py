from __future__ import annotations

import pytest
import structlog
from structlog.testing import capture_logs

from services.llama.runtime.logs import LogCapture

INFO, WARN, ERROR, CONTINUED = 2, 3, 4, 5


@pytest.fixture
def lines():
    structlog.reset_defaults()
    with capture_logs() as logs:
        yield logs


def test_pieces_become_lines_with_the_level_of_their_first(lines):
    capture = LogCapture()
    capture(WARN, b"one ", None)
    capture(CONTINUED, b"line\nand ", None)
    capture(CONTINUED, b"another\n", None)
    assert [(e["log_level"], e["line"]) for e in lines] == [
        ("warning", "one line"),
        ("warning", "and another"),
    ]


def test_the_first_error_explains_a_failed_load_once(lines):
    capture = LogCapture()
    capture(INFO, b"loading\n", None)
    capture(ERROR, b"llama_model_load: unknown architecture\n", None)
    capture(ERROR, b"failed to load\n", None)
    assert capture.last_error() == "unknown architecture"
    assert capture.last_error() == ""
    assert lines[0]["log_level"] == "debug"


def test_bytes_that_are_no_text_and_none(lines):
    capture = LogCapture()
    capture(ERROR, b"\xff\n", None)
    capture(ERROR, None, None)
    assert lines[0]["line"] == "�"


def test_a_cache_larger_than_one_sequence_may_be_is_no_warning(lines):
    LogCapture()(WARN, b"n_ctx_seq > n_ctx_train -- possible training context overflow\n", None)
    assert lines[0]["log_level"] == "debug"
