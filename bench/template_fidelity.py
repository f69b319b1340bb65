"""Chat templates: our renderer against llama-server's, over a matrix of conversations.

`python -m bench.template_fidelity --llama-server PATH` renders every template of the llama.cpp
sources (or of `--templates DIR`) with ours and with `POST /apply-template`, and counts what is
identical. The bodies go through the edge's own translation first. `--write docs/templates.md` puts
the figures, and why the rest differs, into that page.
"""

from __future__ import annotations

import argparse
import json
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from bench.children import ChildError, end_in_order, free_port, spawn, wait_ready
from bench.conversations import CONVERSATIONS
from bench.random_gguf import CACHE
from bench.template_report import Rendering, difference, put, section, table
from deploy import direct
from edge.openai import chat_rules, chat_to_proto, jsonbody
from protos.inference.v1 import inference_pb2 as pb
from services.llama.interface import SpecialToken
from services.llama.marks import plain
from services.llama.prompt import Prompts
from services.worker.errors import TemplateFailed

SOURCES = "sdist/*/vendor/llama.cpp/models/templates"
# Seconds for one rendering.
_RENDER = 30.0
_CAPABILITIES = frozenset(pb.Capability.values())


class Constants:
    """A vocabulary that knows BOS and EOS and nothing else; what templates need of one."""

    size, longest, bos, eos, adds_bos = 2, 4, 0, 1, False
    ends = frozenset((1,))

    def __init__(self, bos: str, eos: str) -> None:
        self._texts = (bos, eos)
        self.special: Mapping[str, SpecialToken] = {
            text: SpecialToken(token) for token, text in enumerate(self._texts)
        }

    def tokenize(self, text: str, *, parse_special: bool) -> list[int]:
        """Not needed to render."""
        raise NotImplementedError

    def piece(self, token: int, *, special: bool) -> bytes:
        """The token's text."""
        del special
        return self._texts[token].encode()


def ours(prompts: Prompts, body: Mapping[str, Any]) -> tuple[str | None, str]:
    """Our prompt, or None and why there is none."""
    request = chat_rules.read(jsonbody.parse(orjson.dumps({"model": "m", **body})))
    chat = chat_to_proto.translate(request, 0, _CAPABILITIES).chat
    try:
        return plain(prompts.render(chat)), ""
    except TemplateFailed as error:
        return None, str(error)


def theirs(url: str, body: Mapping[str, Any]) -> tuple[str | None, str]:
    """llama-server's prompt, or None and why there is none."""
    continues = body.get("continue_final_message", False)
    # It wants the generation prompt switched off where we do not.
    asked = {**body, "add_generation_prompt": False} if continues else dict(body)
    try:
        return str(_call(f"{url}/apply-template", asked)["prompt"]), ""
    except urllib.error.HTTPError as error:
        return None, json.loads(error.read())["error"]["message"]


def compare(server: Path, model: Path, template: Path, wanted: str) -> Iterator[Rendering]:
    """All conversations whose name holds `wanted`, through one template."""
    source = template.read_text(encoding="utf-8")
    with _started(server, model, template) as url:
        props = _call(f"{url}/props")
        prompts = Prompts(Constants(props["bos_token"], props["eos_token"]), source)
        for name, body in CONVERSATIONS.items():
            if wanted in name:
                mine, why = ours(prompts, body)
                other, reason = theirs(url, body)
                yield Rendering(template.stem, name, mine, other, why, reason)


@contextmanager
def _started(server: Path, model: Path, template: Path) -> Iterator[str]:
    """llama-server with this template, on a free port of the loopback; its base URL."""
    port = free_port()
    line = [
        *(str(server), "--model", str(model), "--host", "127.0.0.1", "--port", str(port)),
        *("--jinja", "--chat-template-file", str(template)),
        # The template's own default: of earlier turns' thoughts it keeps what it likes.
        "--no-reasoning-preserve",
        *("--ctx-size", "512", "--parallel", "1", "--threads", "1", "--no-warmup"),
    ]
    name, url = "llama-server-templates", f"http://127.0.0.1:{port}"
    with ExitStack() as stack:
        running = spawn(stack, line, name, {"LD_LIBRARY_PATH": str(server.parent)})
        wait_ready(running, f"{url}/health", name)
        yield url


def _call(url: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with direct.urlopen(request, timeout=_RENDER) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 1 for differences without a reason, 2 for wrong use."""
    parser = argparse.ArgumentParser(prog="python -m bench.template_fidelity", description=__doc__)
    parser.add_argument("--llama-server", type=Path, default=CACHE / "llama-server/llama-server")
    parser.add_argument("--model", type=Path, default=CACHE / "random-tiny-q4_0.gguf")
    parser.add_argument("--templates", type=Path, help="folder of .jinja files")
    parser.add_argument("--template", default="", help="only those whose name holds this")
    parser.add_argument("--conversation", default="", help="only those whose name holds this")
    parser.add_argument("--show", action="store_true", help="print every difference")
    parser.add_argument("--json", type=Path, help="write every rendering")
    parser.add_argument("--write", type=Path, help="file whose tables are made anew, of a full run")
    args = parser.parse_args(argv)
    folder = args.templates or next(iter(sorted(CACHE.glob(SOURCES))), None)
    files = sorted(folder.glob("*.jinja")) if folder else []
    files = [file for file in files if args.template in file.stem]
    if not files or not args.llama_server.is_file() or not args.model.is_file():
        print("template_fidelity: llama-server, its model or the templates are missing; see "
              "docs/templates.md", file=sys.stderr)  # fmt: skip
        return 2
    server, model = args.llama_server.resolve(), args.model.resolve()
    end_in_order()
    try:
        found = [
            one
            for file in files
            for one in compare(server, model, file.resolve(), args.conversation)
        ]
    except (ChildError, OSError) as error:
        print(f"template_fidelity: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    if args.show:
        print("\n\n".join(difference(one) for one in found if not one.same), end="\n\n")
    print(table(found))
    if args.json:
        args.json.write_bytes(orjson.dumps([asdict(one) for one in found]))
    if args.write:
        if args.template or args.conversation:
            parser.error("--write is for a run of all templates and conversations")
        args.write.write_text(put(args.write.read_text("utf-8"), section(found)), "utf-8")
    return 1 if any(not one.same and one.why is None for one in found) else 0


if __name__ == "__main__":
    sys.exit(main())
