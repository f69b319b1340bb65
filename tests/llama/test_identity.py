"""Which workers may go on with each other's answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from services.llama import identity, templates
from services.llama.builtin_templates import BUILTIN
from services.llama.config import LlamaSettings
from services.llama.runtime.gguf import Header

OWN = "sha256:x"
PROJECTOR = Header(metadata={}, parameters=0, quantization="", size=0, identity="sha256:p")


def served(base: str = OWN, projector: Header | None = None, **settings: Any) -> str:
    made = LlamaSettings(model="m.gguf", **settings)
    return identity.served(base, made, templates.choose(made.chat_template, {}), projector)


def test_a_model_as_it_comes_is_its_file():
    assert served() == OWN


@pytest.mark.parametrize(
    "fields", [{"threads": 3}, {"cache_type_k": "q8_0"}, {"draft_model": "d"}, {"parallel": 2}]
)
def test_what_changes_only_the_time_makes_no_other_model(fields: dict[str, Any]):
    assert served(**fields) == OWN


def test_whatever_changes_answers_makes_another_model():
    others = [
        *(served(chat_template=name) for name in BUILTIN),
        *(served(tool_format=name) for name in ("hermes", "granite")),
        served(temperature=0.5),
        served(temperature=0.6),
        served(min_p=0.5),
        served(sampling_defaults=("top_k=1",)),
        served(sampling_defaults=("top_k=1", "top_p=0.5")),
        served(projector=PROJECTOR),
        served(projector=replace(PROJECTOR, identity="sha256:q")),
        served(chat_template="chatml", tool_format="hermes"),
        served("sha256:y", chat_template="chatml"),
    ]

    assert OWN not in others
    assert len(set(others)) == len(others)
    assert all(other.startswith("sha256:") for other in others)


def test_the_order_of_defaults_does_not_matter():
    one, other = ("top_k=1", "top_p=0.5"), ("top_p=0.5", "top_k=1")
    assert served(sampling_defaults=one) == served(sampling_defaults=other)


def test_the_same_settings_are_the_same_model_in_every_release():
    """Or no answer would survive a rolling update: workers of both releases serve together."""
    made = served(tool_format="hermes", min_p=0.5, projector=PROJECTOR)
    assert made == "sha256:2cce0bfcf4a0d65cb23596149f677548572dd981546f1d6909a186ab61581f97"
