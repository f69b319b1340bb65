"""Which chat templates a model is served with: its own, or the operator's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.llama.builtin_templates import BUILTIN
from services.worker.backend import SettingError

_KEY = "tokenizer.chat_template"
# Other templates of a GGUF that have a purpose here: for chats with tools, and with documents.
NAMED = ("tool_use", "rag")
_MOST_BYTES = 4 * 2**20


@dataclass(frozen=True, slots=True)
class Templates:
    """Sources. The default is None where the model has none."""

    default: str | None = None
    # By name, of NAMED.
    named: Mapping[str, str] = field(default_factory=dict)
    # Whether they are the operator's, and not the model's own.
    overridden: bool = False


def choose(said: str, metadata: Mapping[str, Any]) -> Templates:
    """The operator's, by `said`, a built-in name or a file; empty: those in the GGUF's metadata.

    A name wins over a file of that name; `./name` is the file. Raises SettingError.
    """
    if said in BUILTIN:
        return Templates(BUILTIN[said], overridden=True)
    if said:
        return Templates(_read(Path(said)), overridden=True)
    own = metadata.get(_KEY)
    found = {name: metadata.get(f"{_KEY}.{name}") for name in NAMED}
    named = {name: source for name, source in found.items() if isinstance(source, str) and source}
    default = own if isinstance(own, str) and own else named.get("tool_use")
    return Templates(default, named)


def _read(path: Path) -> str:
    names = ", ".join(BUILTIN)
    try:
        # As far as it may go, so that no device or huge file is read whole.
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
        source = data.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "no UTF-8 text"
        raise SettingError(
            f"--chat-template {path}: {why}; write a file, or one of {names}"
        ) from None
    if len(data) > _MOST_BYTES:
        raise SettingError(f"--chat-template {path}: larger than {_MOST_BYTES // 2**20} MiB")
    if not source.strip():
        raise SettingError(f"--chat-template {path}: the file is empty")
    return source
