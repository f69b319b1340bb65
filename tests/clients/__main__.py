"""`python -m tests.clients [NAME …]`: a line for each client; fails where one fails."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.stack import MODEL_NAME, ROOT, Stack, free_port, get, wait_until

HERE = Path(__file__).parent
CACHE = HERE / ".cache"
UV = ROOT / ".uv" / "bin" / "uv"
EMBED_NAME = "caravan-demo-embed"
SERVED = (f'"{MODEL_NAME}"', f'"{EMBED_NAME}"')
SECONDS = 240


@dataclass(frozen=True, slots=True)
class Client:
    """`needs` is the file of its folder that says what is installed; `shown` the package whose version is."""

    name: str
    folder: str
    needs: str
    shown: str

    @property
    def script(self) -> Path:
        return HERE / self.folder / ("check.mjs" if self.needs == "package.json" else "check.py")


CLIENTS = (
    Client("openai-python-2", "openai_python", "requirements-2.txt", "openai"),
    Client("openai-python-3", "openai_python", "requirements-3.txt", "openai"),
    Client("langchain", "langchain", "requirements.txt", "langchain-openai"),
    Client("llama-index", "llama_index", "requirements.txt", "llama-index-llms-openai-like"),
    Client("instructor", "instructor", "requirements.txt", "instructor"),
    Client("pydantic-ai", "pydantic_ai", "requirements.txt", "pydantic-ai-slim"),
    Client("litellm", "litellm", "requirements.txt", "litellm"),
    Client("openai-agents", "openai_agents", "requirements.txt", "openai-agents"),
    Client("llm", "llm", "requirements.txt", "llm"),
    Client("anthropic-python", "anthropic_python", "requirements.txt", "anthropic"),
    Client("openai-node", "openai_node", "package.json", "openai"),
    Client("ai-sdk", "ai_sdk", "package.json", "ai"),
    Client("anthropic-node", "anthropic_node", "package.json", "@anthropic-ai/sdk"),
)


@contextlib.contextmanager
def both_models(directory: Path) -> Iterator[Stack]:
    """An edge over the chat model and the embedding model, ready; all gone at the end."""
    stack = Stack(directory)
    try:
        chat, _ = stack.start_worker()
        embed = free_port()
        stack.spawn(
            "embed",
            *("-m", "services.llama", "--model", str(ROOT / "models" / f"{EMBED_NAME}.gguf")),
            *("--model-name", EMBED_NAME, "--port", str(embed), "--threads", "1"),
        )
        stack.start_edge(chat, embed)
        stack.wait_ready()
        models = f"{stack.base_url}/models"
        wait_until(lambda: all(name in get(models)[1] for name in SERVED), "both models are served")
        yield stack
    finally:
        stack.stop()


class FailedError(Exception):
    """A client could not be installed, or its script failed; the message is the end of the output."""


def clean_env(**more: str) -> dict[str, str]:
    """Nothing of the checkout's Python, nor keys of the person who runs it."""
    ours = ("PYTHONPATH", "VIRTUAL_ENV", "OPENAI_", "ANTHROPIC_", "LLM_", "PYTHONWARNINGS")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | more


def run(*command: str | Path, cwd: Path, env: dict[str, str]) -> None:
    """Runs to the end. Raises FailedError."""
    try:
        done = subprocess.run(
            command, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=SECONDS
        )
    except subprocess.TimeoutExpired:
        raise FailedError(f"not done in {SECONDS} s") from None
    if done.returncode != 0:
        raise FailedError((done.stdout + done.stderr)[-3000:])


def installed(client: Client) -> Path:
    """The client's environment, made where what it needs is not what was installed."""
    needs = HERE / client.folder / client.needs
    stamp = hashlib.sha256(needs.read_bytes()).hexdigest()[:12]
    place = CACHE / f"{client.name}-{stamp}"
    if (place / "ready").exists():
        return place
    for old in CACHE.glob(f"{client.name}-????????????"):
        shutil.rmtree(old)
    place.mkdir(parents=True)
    if client.needs == "package.json":
        shutil.copy(needs, place)
        run("npm", "install", "--no-package-lock", "--ignore-scripts", cwd=place, env=clean_env())
    else:
        run(
            UV,
            "venv",
            "--quiet",
            "--python",
            sys.executable,
            place / "venv",
            cwd=place,
            env=clean_env(),
        )
        python = place / "venv" / "bin" / "python"
        run(
            UV,
            "pip",
            "install",
            "--quiet",
            "--python",
            python,
            "-r",
            needs,
            cwd=place,
            env=clean_env(),
        )
    (place / "ready").touch()
    return place


def version(client: Client) -> str:
    """As it is pinned."""
    text = (HERE / client.folder / client.needs).read_text()
    if client.needs == "package.json":
        return str(json.loads(text)["dependencies"][client.shown])
    found = re.search(rf"^{re.escape(client.shown)}(?:\[.*\])?==(\S+)", text, re.MULTILINE)
    assert found, f"{client.name}: {client.shown} is not pinned"
    return found.group(1)


def check(client: Client, stack: Stack) -> None:
    """Raises FailedError."""
    place = installed(client)
    env = clean_env(
        BASE_URL=stack.base_url,
        MODEL=MODEL_NAME,
        EMBED_MODEL=EMBED_NAME,
        OPENAI_API_KEY="none",
        ANTHROPIC_API_KEY="none",
        # Nothing is reported to anybody, and nothing looked up.
        DO_NOT_TRACK="1",
        LITELLM_LOCAL_MODEL_COST_MAP="True",
    )
    if client.needs == "package.json":
        # A module's imports are found from where it stands.
        script = Path(shutil.copy(client.script, place))
        run("node", script, cwd=place, env=env)
        return
    bin_ = place / "venv" / "bin"
    env["PATH"] = f"{bin_}{os.pathsep}{env['PATH']}"
    with tempfile.TemporaryDirectory() as empty:
        run(bin_ / "python", "-I", client.script, cwd=Path(empty), env=env)


def main(names: list[str]) -> int:
    unknown = set(names) - {client.name for client in CLIENTS}
    if unknown:
        print(f"no such client: {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    failed = []
    with tempfile.TemporaryDirectory() as directory, both_models(Path(directory)) as stack:
        for client in CLIENTS:
            if names and client.name not in names:
                continue
            began = time.monotonic()
            try:
                check(client, stack)
            except FailedError as error:
                failed.append(client.name)
                print(f"FAILED  {client.name} {version(client)}\n{error}", flush=True)
            else:
                took = time.monotonic() - began
                print(f"ok      {client.name} {version(client)}  {took:.1f} s", flush=True)
    print(f"{len(failed)} failed: {', '.join(failed)}" if failed else "all clients work")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
