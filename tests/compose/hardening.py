"""What a container may not do: write, gain privileges, reach what it should not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.compose.commands import check, run, say, succeeds, wait_until
from tests.compose.stack import PROJECT, inspect

OUTSIDE = "caravan-outside"
OUTSIDE_PORT = 9000
CONNECT = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), 3).close()
except OSError as error:
    sys.exit(str(error))
"""
LISTEN = """
import socket, sys
server = socket.create_server((sys.argv[1], int(sys.argv[2])))
while True:
    server.accept()[0].close()
"""


def is_healthy(container: str) -> bool:
    status: str = inspect(container)["State"]["Health"]["Status"]
    return status == "healthy"


def check_hardening(container: str) -> None:
    found = inspect(container)
    name, host, config = found["Name"].lstrip("/"), found["HostConfig"], found["Config"]
    user = config["User"].split(":")[0]
    check(user.isdigit() and user != "0", f"{name} runs as {user or 'root'}")
    check(host["ReadonlyRootfs"], f"{name}: the root file system is writable")
    check(host["CapDrop"] == ["ALL"] and not host["CapAdd"], f"{name} has capabilities")
    check(not host["Privileged"], f"{name} is privileged")
    options = " ".join(host["SecurityOpt"] or [])
    check("no-new-privileges" in options, f"{name} may gain privileges: {options!r}")
    check(0 < (host["PidsLimit"] or 0) <= 1024, f"{name} has no limit of processes")
    check(host["Memory"] > 0, f"{name} has no limit of memory")
    for mount in found["Mounts"]:
        check(
            mount["Type"] == "tmpfs" or not mount["RW"],
            f"{name}: {mount['Destination']} is writable",
        )
    # And as seen from inside.
    status = run("docker", "exec", container, "cat", "/proc/1/status")
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    check(
        fields["Uid"].split()[0] == user, f"{name}: the process runs as {fields['Uid'].split()[0]}"
    )
    check(int(fields["CapBnd"], 16) == 0, f"{name}: capabilities {fields['CapBnd'].strip()}")
    check(fields["NoNewPrivs"].strip() == "1", f"{name}: NoNewPrivs is off")
    check(not succeeds("docker", "exec", container, "touch", "/app/x"), f"{name} can write to /app")
    tools = ("gcc", "cc", "g++", "cmake", "pip")
    for tool in tools:
        check(
            not succeeds("docker", "exec", container, "sh", "-c", f"command -v {tool}"),
            f"{name} has {tool}",
        )


def connects(container: str, host: str, port: int) -> bool:
    return succeeds("docker", "exec", container, "python", "-c", CONNECT, host, str(port))


@contextmanager
def another_host() -> Iterator[str]:
    """A host beyond this machine's Docker networks that listens on OUTSIDE_PORT; its address.

    A network namespace with a cable to this one, in the address range set aside for benchmarks.
    """
    here, there = "198.18.255.1", "198.18.255.2"
    succeeds("ip", "netns", "del", OUTSIDE)  # of a run that was killed
    run("ip", "netns", "add", OUTSIDE)
    listener: subprocess.Popen[bytes] | None = None
    try:
        run(*f"ip link add caravan-out type veth peer name eth0 netns {OUTSIDE}".split())
        run(*f"ip addr add {here}/30 dev caravan-out".split())
        run("ip", "link", "set", "caravan-out", "up")
        run(*f"ip -n {OUTSIDE} addr add {there}/30 dev eth0".split())
        run(*f"ip -n {OUTSIDE} link set eth0 up".split())
        listen = (sys.executable, "-c", LISTEN, there, str(OUTSIDE_PORT))
        listener = subprocess.Popen(["ip", "netns", "exec", OUTSIDE, *listen])
        yield there
    finally:
        if listener is not None:
            listener.kill()
            listener.wait()
        run("ip", "netns", "del", OUTSIDE)


def check_no_egress(worker: str, edge: str) -> None:
    """A worker reaches its own network and nothing else."""
    inner = f"{PROJECT}_workers"
    networks = inspect(edge)["NetworkSettings"]["Networks"]
    check(list(inspect(worker)["NetworkSettings"]["Networks"]) == [inner], "networks of a worker")
    check(run("docker", "network", "inspect", "-f", "{{.Internal}}", inner) == "true", inner)
    check(connects(worker, networks[inner]["IPAddress"], 8000), "a worker reaches nothing at all")
    if os.geteuid() != 0 or not shutil.which("ip"):
        say("skipped, as it needs root and `ip`: a worker that tries to reach another host")
        return
    with another_host() as host:
        wait_until("the edge reaches another host", lambda: connects(edge, host, OUTSIDE_PORT), 15)
        check(not connects(worker, host, OUTSIDE_PORT), "a worker reaches another host")
