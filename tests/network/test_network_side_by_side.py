"""Two engines and a dockerd on one host, each with published ports: each removes only its own."""

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.compat import engines
from tests.e2e.harness import BIN, EngineProcess, until

from wherry.linux import netns
from wherry.network import sandbox

pytestmark = pytest.mark.root

SERVE = "while :; do echo $NAME | nc -l -p 80; done"


class Beside(EngineProcess):
    """An engine in the namespace that is the host of them all."""

    def __init__(self, there: int) -> None:
        super().__init__()
        self.there = there

    def launch(self) -> None:
        """Execute wherryd in the namespace."""
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [
                    *_enter(self.there),
                    str(BIN / "wherryd"),
                    "--data-root",
                    self.roots.data,
                    "--exec-root",
                    self.roots.run,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
            )


def _enter(there: int) -> tuple[str, str]:
    return "nsenter", f"--net=/proc/{os.getpid()}/fd/{there}"


@pytest.fixture
def host() -> Iterator[int]:
    """A network namespace for all."""
    there = sandbox.create_namespace()
    try:
        yield there
    finally:
        os.close(there)


@contextlib.contextmanager
def _dockerd(base: Path, there: int) -> Iterator[tuple[Callable[..., bytes], Callable[[], None]]]:
    """The machine's dockerd with its own firewall rules; gives a way to command it, and one to end it."""
    path = f"unix://{base}/docker.sock"
    with open(base / "log", "wb") as log:
        process = subprocess.Popen(
            [
                *(*_enter(there), "dockerd", f"--data-root={base}/data", f"--exec-root={base}/x", f"--host={path}"),
                *(f"--pidfile={base}/d.pid", "--userland-proxy=false"),
            ],
            env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

    def docker(*words: str, stdin: bytes | None = None) -> bytes:
        env = {**os.environ, "DOCKER_HOST": path}
        return subprocess.run(["docker", *words], input=stdin, env=env, check=True, capture_output=True).stdout

    def end() -> None:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    try:
        deadline = time.monotonic() + 60
        while subprocess.run(["docker", "-H", path, "version"], check=False, capture_output=True).returncode:
            assert process.poll() is None and time.monotonic() < deadline, (base / "log").read_text()[-2000:]
            time.sleep(0.05)  # dockerd tells nobody that it is ready
        yield docker, end
    finally:
        end()
        engines._unmount_below(base)


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
    if not engines.available():
        pytest.skip("no dockerd here (scripts/install.sh python3 .venv peers)")
    with contextlib.ExitStack() as stack:
        ours = [Beside(host), Beside(host)]
        for engine in ours:
            stack.callback(engine.destroy)
            engine.start()
        ours[0].wherry("image", "bootstrap", "busybox")
        archive = subprocess.run(["docker", "save", "busybox"], env=ours[0].env, check=True, capture_output=True).stdout
        ours[1].run("docker", "load", stdin=archive)
        docker, end_docker = stack.enter_context(_dockerd(tmp_path, host))
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
        end_docker()
        all_serve(8000)
        ours[0].docker("rm", "-f", "web")
        ours[0].stop()
        assert "wherry" not in _rules(host)
        left = netns.inside(host, lambda: os.listdir("/proc/sys/net/ipv4/conf"))
        assert not [name for name in left if name.startswith("wh")]
