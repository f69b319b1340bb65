"""Builds the compose stack and drives it: `make compose-test [BASE_IMAGE=…]`.

One worker, then three without a restart of the edge; chats through the official SDK; one worker
killed, and no request fails; what the containers may not do; an orderly stop. Everything has a
deadline, everything is taken down again, and on failure the containers' logs are printed.
`.ci/docker` gets a machine ready for this.
"""

from __future__ import annotations

import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import NoReturn

import openai

from tests.compose.chats import CHAT_SECONDS, ask, ask_many
from tests.compose.commands import ROOT, TestError, check, complain, run, say, succeeds, wait_until
from tests.compose.hardening import check_hardening, check_no_egress, is_healthy
from tests.compose.stack import MODEL, Stack, base_image, inspect, taken_down

WORKERS = 3
REQUESTS = 12  # after the kill


def drive(stack: Stack) -> None:
    say(f"building on {stack.base_image or 'the default base image'}")
    started = time.monotonic()
    stack.build()
    say(f"built in {time.monotonic() - started:.0f} s")
    for target in ("edge", "llama"):
        size = int(
            run("docker", "image", "inspect", "-f", "{{.Size}}", f"caravan-{target}:compose-test")
        )
        say(f"image {target}: {size / 1e6:.0f} MB")

    stack.up(1)
    wait_until("the edge and one worker are ready", lambda: stack.ready_workers() == 1)
    edge = stack.ids("edge")[0]
    started_at = inspect(edge)["State"]["StartedAt"]
    stack.up(WORKERS)
    wait_until(f"the edge sees {WORKERS} workers", lambda: stack.ready_workers() == WORKERS)
    check(inspect(edge)["State"]["StartedAt"] == started_at, "the edge was restarted")
    say(f"{WORKERS} workers, found without a restart: {stack.get('/health/ready')[1].strip()}")

    with openai.OpenAI(
        base_url=f"{stack.url}/v1", api_key="none", max_retries=0, timeout=CHAT_SECONDS
    ) as client:
        model = client.models.list().data[0].id
        ask(client, model)
        say(f"chat with {model} ok, whole and streamed")

        for container in (edge, *stack.ids("llama")):
            check_hardening(container)
        check_no_egress(stack.ids("llama")[0], edge)
        everyone = [edge, *stack.ids("llama")]
        wait_until("the health checks pass", lambda: all(map(is_healthy, everyone)))
        say("hardening ok, no way out of a worker, all healthy")

        run("docker", "kill", "-s", "KILL", stack.ids("llama")[-1])
        ask_many(client, model, REQUESTS)
        wait_until(
            f"the edge sees {WORKERS - 1} workers", lambda: stack.ready_workers() == WORKERS - 1
        )
        ask(client, model)
        say(f"one killed, {2 * REQUESTS + 2} requests after it ok")

    running = [edge, *(c for c in stack.ids("llama") if inspect(c)["State"]["Running"])]
    check(len(running) == WORKERS, "not all of the others are running")
    stack.compose("stop")
    for container in running:
        state, name = inspect(container)["State"], inspect(container)["Name"].lstrip("/")
        check(state["ExitCode"] == 0, f"{name} ends with {state['ExitCode']} when it is stopped")


def main() -> int:
    def terminated(*_: object) -> NoReturn:
        raise TestError("terminated")

    signal.signal(signal.SIGTERM, terminated)
    if not succeeds("docker", "info"):
        complain("compose-test: no Docker daemon answers (.ci/docker installs and starts one)")
        return 1
    if not MODEL.is_file():
        complain(f"compose-test: no model: {MODEL.relative_to(ROOT)}")
        return 1
    try:
        with tempfile.TemporaryDirectory() as scratch:
            stack = Stack(base_image(), Path(scratch))
            with taken_down(stack):
                drive(stack)
    except (TestError, openai.OpenAIError, TimeoutError) as error:
        complain(f"compose-test: failed: {error}")
        return 1
    say(f"{WORKERS} workers, chat ok, one killed, chat ok, all down")
    return 0


if __name__ == "__main__":
    sys.exit(main())
