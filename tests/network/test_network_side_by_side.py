"""Two engines and a dockerd on one host, each with published ports: each removes only its own."""

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e import dockerd
from tests.e2e.harness import WHERRYD, EngineProcess, until, within

from wherry.linux import netns
from wherry.network import sandbox

pytestmark = pytest.mark.root

SERVE = "while :; do echo $NAME | nc -l -p 80; done"


@pytest.fixture
def host() -> Iterator[int]:
    """A network namespace for all."""
    there = sandbox.create_namespace()
    try:
        yield there
    finally:
        os.close(there)


def _says(there: int, port: int) -> str:
    """What the server at a port of the host says."""

    def ask() -> str:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
            client.settimeout(5)
            return client.recv(64).decode().strip()

    try:
        return netns.inside(there, ask)
    except OSError:
        return ""


def _rules(there: int) -> str:
    done = netns.inside(there, lambda: subprocess.run(["nft", "list", "tables"], check=True, capture_output=True))
    return done.stdout.decode()


def test_none_disturbs_another(host: int, tmp_path: Path) -> None:
    """Each serves on its own port while the others come and go, and what one leaves is nothing of its own."""
    with contextlib.ExitStack() as stack:
        ours = [EngineProcess(program=within(host, WHERRYD)), EngineProcess(program=within(host, WHERRYD))]
        for engine in ours:
            stack.callback(engine.destroy)
            engine.start()
        ours[0].wherry("image", "bootstrap", "busybox")
        archive = subprocess.run(["docker", "save", "busybox"], env=ours[0].env, check=True, capture_output=True).stdout
        ours[1].run("docker", "load", stdin=archive)
        theirs = stack.enter_context(dockerd.dockerd(tmp_path, "--userland-proxy=false", enter=within(host)))
        docker = theirs.docker
        docker("load", stdin=archive)

        def serve(name: str, port: int) -> tuple[str, ...]:
            flags = ("--name", "web", "-p", f"{port}:80", "-e", f"NAME={name}", "--network", "users")
            return ("run", "-d", *flags, "busybox", "sh", "-c", SERVE)

        for number, engine in enumerate(ours):
            engine.docker("network", "create", "users")
            engine.docker(*serve(f"ours{number}", 8000 + number))
        docker("network", "create", "users")
        docker(*serve("theirs", 8010))
        served = {8000: "ours0", 8001: "ours1", 8010: "theirs"}

        def all_serve(*ports: int) -> None:
            for port, name in served.items():
                wanted = name if port in ports else ""
                until(lambda port=port, wanted=wanted: _says(host, port) == wanted, f"{port} says {wanted!r}")  # type: ignore[misc]

        all_serve(8000, 8001, 8010)
        assert ours[0].roots.scope in _rules(host) and ours[1].roots.scope in _rules(host)
        # one of ours ends with all that it has
        ours[1].docker("rm", "-f", "web")
        ours[1].stop()
        assert ours[1].roots.scope not in _rules(host) and ours[0].roots.scope in _rules(host)
        all_serve(8000, 8010)
        # theirs ends; it leaves rules behind, which are nobody's business but its own
        docker("rm", "-f", "web")
        theirs.end()
        all_serve(8000)
        ours[0].docker("rm", "-f", "web")
        ours[0].stop()
        assert "wherry" not in _rules(host)
        left = netns.inside(host, lambda: os.listdir("/proc/sys/net/ipv4/conf"))
        assert not [name for name in left if name.startswith("wh")]
